"""Loads KL autoencoders in the original layout: names, 1x1 attention convolutions, config inferred from shapes."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from sadaflow.models import Autoencoder, AutoencoderConfig

from ..strict import Convert, Loader, UnknownTensor, renamed
from .layout import FromSection, Section, add_section, by_name, keys_by_original

_GROUPS = 32
_TOP = {"conv_norm_out": "norm_out"}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def original_module(name: str, levels: int) -> str:
    """The original name of the module that the Hub's layout calls `name`."""
    half, _, rest = name.partition(".")
    if half not in ("encoder", "decoder"):
        return name
    room, _, inner = rest.partition(".")
    if room == "mid_block":
        group, index, inner = inner.split(".", 2)
        path = f"{half}.mid." + (f"block_{int(index) + 1}" if group == "resnets" else "attn_1")
        return f"{path}.{_resnet(inner) if group == 'resnets' else _ATTENTION[inner]}"
    if room not in ("down_blocks", "up_blocks"):
        return f"{half}.{_TOP.get(room, room)}"
    block, group, index, inner = inner.split(".", 3)
    path = f"{half}.down.{block}" if room == "down_blocks" else f"{half}.up.{levels - 1 - int(block)}"
    if group == "resnets":
        return f"{path}.block.{index}.{_resnet(inner)}"
    return f"{path}.{'downsample' if room == 'down_blocks' else 'upsample'}.{inner}"


def _resnet(inner: str) -> str:
    return "nin_shortcut" if inner == "conv_shortcut" else inner


def key_map(network: Autoencoder) -> dict[str, str]:
    """The Hub's name of each tensor, by its name in the original layout."""
    levels = len(network.config.block_out_channels)
    return keys_by_original(network, partial(original_module, levels=levels))


def conversion(network: Autoencoder) -> Convert:
    """The conversion that renames, and turns the attention's 1x1 convolutions into matrices."""
    rename = by_name(key_map(network))

    def convert(name: str, tensor: Tensor) -> Mapping[str, Tensor]:
        if name.startswith("loss."):  # used in training only
            return {}
        attention = ".mid.attn_1." in name and tensor.dim() == 4
        if attention and tensor.shape[2:] != (1, 1):
            raise UnknownTensor(f"{name!r} is not a 1x1 convolution")
        return rename(name, tensor[:, :, 0, 0] if attention else tensor)

    return convert


def infer_config(section: Section, scaling: dict[str, Any]) -> dict[str, Any]:
    """Infer the config.json of an autoencoder from its shapes.

    Args:
        section: Its tensors, under the authors' names or the Hub's.
        scaling: Fields that do not follow from shapes: scaling and shift of the latents.

    Raises:
        ValueError: If the shapes are not those of an autoencoder.
    """

    def shape(name: str) -> tuple[int, ...]:
        return section.shape(name, "autoencoder", 4)

    downs, blocks = ("encoder.down_blocks", "resnets") if _hub_named(section) else ("encoder.down", "block")
    levels = section.count(downs)
    widths = [shape(f"{downs}.{level}.{blocks}.0.conv2.weight")[0] for level in range(levels)]
    if any(width % _GROUPS for width in widths):
        raise ValueError(
            f"{section.label}: widths {widths} are not multiples of the {_GROUPS} groups of published autoencoders"
        )
    return {
        "in_channels": shape("encoder.conv_in.weight")[1],
        "out_channels": shape("decoder.conv_out.weight")[0],
        "latent_channels": shape("decoder.conv_in.weight")[1],
        "block_out_channels": widths,
        "layers_per_block": section.count(f"{downs}.0.{blocks}"),
        "use_quant_conv": "quant_conv.weight" in section.shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in section.shapes,
        **scaling,
    }


def _hub_named(section: Section) -> bool:
    return any(name.startswith("encoder.down_blocks.") for name in section.shapes)


def load(section: Section, scaling: dict[str, Any], loader: Loader) -> Autoencoder:
    """Build the autoencoder of `section`; the loader reads its weights, in float32 if float16 would overflow.

    Args:
        section: Its tensors, under the authors' names or the Hub's.
        scaling: See `infer_config`.
        loader: Reads them.

    Raises:
        ValueError: If tensors are missing, unexpected, misshaped or of the wrong type; each is named.
    """
    config = section.config(AutoencoderConfig.from_dict, infer_config(section, scaling))
    network = section.build(lambda: Autoencoder(config))
    convert = from_section(section).conversion(network)
    return add_section(network, section, convert, loader, config.safe_dtype(loader.dtype))


def from_section(section: Section) -> FromSection:
    """The autoencoder of a section, under the authors' names or the Hub's, for a checkpoint that has its config."""
    return FromSection(section, lambda network: renamed(network.rename) if _hub_named(section) else conversion(network))
