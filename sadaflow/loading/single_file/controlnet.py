"""Loads ControlNets from single files under the authors' names or the Hub's: config inferred from shapes."""

from functools import partial
from typing import Any

from sadaflow.models import ControlNet, ControlNetConfig, UNetConfig

from ..checkpoint import unchanged_name
from ..strict import Loader, renamed
from . import unet
from .layout import Section, add_section, by_name, keys_by_original

_EMBEDDING = "controlnet_cond_embedding."


def original_module(name: str, config: ControlNetConfig) -> str:
    """The authors' name of module `name` of the Hub's layout; raises ValueError if there is none."""
    if name.startswith(_EMBEDDING):
        # Convolutions alternate with activations, which have a number as well.
        inner, blocks = name.removeprefix(_EMBEDDING), 2 * (len(config.embedding_widths) - 1)
        index = {"conv_in": 0, "conv_out": blocks + 1}.get(inner)
        return f"input_hint_block.{2 * (int(inner.rpartition('.')[2]) + 1 if index is None else index)}"
    if name.startswith("controlnet_down_blocks."):
        return f"zero_convs.{name.rpartition('.')[2]}.0"
    return "middle_block_out.0" if name == "controlnet_mid_block" else unet.original_module(name, config.unet)


def key_map(network: ControlNet, config: ControlNetConfig) -> dict[str, str]:
    """The Hub's name of each tensor, by its name in the authors' layout."""
    return keys_by_original(network, partial(original_module, config=config))


def infer_config(section: Section, steered: UNetConfig) -> dict[str, Any]:
    """Infer the config.json of a ControlNet from its shapes.

    Args:
        section: Its tensors.
        steered: The U-Net that it steers; its number of sinusoids does not follow from the ControlNet's shapes.

    Raises:
        ValueError: If the shapes are not those of a ControlNet.
    """
    names = unet.names_of(section)
    config = unet.encoder_config(section, names)
    del config["up_block_types"]
    added = section.shapes.get(f"{names.added}.weight")
    if added is not None and steered.time_id_width is not None:
        config |= unet.added_config(section.shape(f"{names.added}.weight", "ControlNet", 2)[1], steered.time_id_width)
    hub = unet.is_hub_named(section)
    first = f"{_EMBEDDING}conv_in" if hub else "input_hint_block.0"
    others = f"{_EMBEDDING}blocks" if hub else "input_hint_block"
    # Each level of the embedding has two convolutions; the second leads to the next level's width.
    indices = range(1, section.count(others), 2) if hub else range(4, 2 * section.count(others) - 2, 4)
    convolutions = [first, *(f"{others}.{i}" for i in indices)]
    widths = [section.shape(f"{name}.weight", "ControlNet", 4)[0] for name in convolutions]
    return {**config, "conditioning_embedding_out_channels": widths}


def load(section: Section, steered: UNetConfig, loader: Loader, *, pooled: bool = False) -> ControlNet:
    """Build the ControlNet of `section`; the loader reads its weights.

    Args:
        section: Its tensors.
        steered: The U-Net that it steers.
        loader: Reads them.
        pooled: Whether its residuals are averaged over the picture (`global_pool_conditions`).

    Raises:
        ValueError: If tensors are missing, unexpected, misshaped or of the wrong type; each is named.
    """
    raw = {**infer_config(section, steered), "global_pool_conditions": pooled}
    config = section.config(ControlNetConfig.from_dict, raw)
    network = section.build(lambda: ControlNet(config))
    convert = renamed(unchanged_name) if unet.is_hub_named(section) else by_name(key_map(network, config))
    return add_section(network, section, convert, loader)
