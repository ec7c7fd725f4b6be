"""Loads U-Nets of Stable Diffusion 1.x, 2.x and XL from single files: names, config inferred from shapes."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from sadaflow.models import UNet, UNetConfig

from ..checkpoint import unchanged_name
from ..strict import Loader, renamed
from .layout import Section, add_section, by_name, keys_by_original

_TOP = {
    "time_embedding.cond_proj": "time_embed.cond_proj",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_HEAD_DIM = 64  # of SD 2.x and XL, whose projections are linear; SD 1.x has 8 heads at every width
_HEADS = 8

Added = tuple[int, int]
"""Width of the pooled text, and number of ids of size and crop."""


def original_module(name: str, config: UNetConfig) -> str:
    """The original name of module `name` of the Hub's layout; raises ValueError if there is none."""
    if name in _TOP:
        return _TOP[name]
    room, _, rest = name.partition(".")
    if room == "mid_block":
        group, index, inner = rest.split(".", 2)
        path = f"middle_block.{1 if group == 'attentions' else 2 * int(index)}"
        return f"{path}.{_RESNET[inner] if group == 'resnets' else inner}"
    if room not in ("down_blocks", "up_blocks"):
        raise ValueError(f"the original layout has no module {name!r}")
    block, group, index, inner = rest.split(".", 3)
    layers = config.layers_per_block[0]
    first = int(block) * (layers + 1) + (room == "down_blocks")
    stack = "input_blocks" if room == "down_blocks" else "output_blocks"
    if group == "downsamplers":
        return f"{stack}.{first + layers}.0.op"
    if group == "upsamplers":
        attention = config.cross_attention[config.levels - 1 - int(block)]
        return f"{stack}.{first + layers}.{2 if attention else 1}.conv"
    return f"{stack}.{first + int(index)}." + (f"0.{_RESNET[inner]}" if group == "resnets" else f"1.{inner}")


def key_map(network: UNet) -> dict[str, str]:
    """The Hub's name of each tensor, by its name in the original layout."""
    return keys_by_original(network, partial(original_module, config=network.config))


def infer_config(section: Section, added: Added | None, size: int) -> dict[str, Any]:
    """Infer the config.json of a U-Net from its shapes.

    Numbers of heads and groups do not follow from shapes; they are those of the published models.

    Args:
        section: Its tensors, under the authors' names or the Hub's.
        added: See `Added`; None for a network without them (SD 1.x and 2.x).
        size: Side of the latents that it was trained on.

    Raises:
        ValueError: If the shapes are not those of a U-Net.
    """
    names = names_of(section)
    config = {**encoder_config(section, names), "sample_size": size}
    config["out_channels"] = section.shape(f"{names.conv_out}.weight", "U-Net", 4)[0]
    if f"{names.guidance}.weight" in section.shapes:
        config["time_cond_proj_dim"] = section.shape(f"{names.guidance}.weight", "U-Net", 2)[1]
    if added is None:
        return config
    (pooled, ids), width = added, section.shape(f"{names.added}.weight", "U-Net", 2)[1]
    each, rest = divmod(width - pooled, ids)
    if each < 2 or rest or each % 2:
        raise ValueError(
            f"{section.label}: {names.added} is {width} wide, which is not pooled text of {pooled} and {ids} sinusoids"
        )
    return config | added_config(width, each)


def added_config(width: int, each: int) -> dict[str, Any]:
    """The fields of a network that reads pooled text and `width` in all, with `each` sinusoids of every id."""
    return {
        "addition_embed_type": "text_time",
        "projection_class_embeddings_input_dim": width,
        "addition_time_embed_dim": each,
    }


@dataclass(frozen=True)
class UNetNames:
    """Names of the modules whose shapes show a config, in one layout.

    Attributes:
        conv_in: The first convolution.
        conv_out: The last one.
        guidance: Embedding of the guidance strength.
        added: First layer of the embedding of pooled text and ids.
        middle: Transformer of the middle.
        resnets: First residual block of each level.
        last: The second convolution of a residual block.
        attentions: First transformer of each level, whether the level has one or not.
        layers: Number of residual blocks of a level.
    """

    conv_in: str
    conv_out: str
    guidance: str
    added: str
    middle: str
    resnets: tuple[str, ...]
    last: str
    attentions: tuple[str, ...]
    layers: int


def names_of(section: Section) -> UNetNames:
    """The names of the layout that a section has; raises ValueError if it is not that of a U-Net."""
    if is_hub_named(section):
        levels = [f"down_blocks.{level}" for level in range(section.count("down_blocks"))]
        return UNetNames(
            "conv_in",
            "conv_out",
            "time_embedding.cond_proj",
            "add_embedding.linear_1",
            "mid_block.attentions.0",
            tuple(f"{level}.resnets.0" for level in levels),
            "conv2",
            tuple(f"{level}.attentions.0" for level in levels),
            section.count("down_blocks.0.resnets"),
        )
    stored, blocks = section.shapes, section.count("input_blocks")
    downs = [i for i in range(blocks) if f"input_blocks.{i}.0.op.weight" in stored]
    if not downs or not downs[0]:
        raise ValueError(f"{section.label}: no U-Net in the original layout: it has no downsampling")
    firsts = [1 + level * downs[0] for level in range(blocks // downs[0])]
    return UNetNames(
        "input_blocks.0.0",
        "out.2",
        "time_embed.cond_proj",
        "label_emb.0.0",
        "middle_block.1",
        tuple(f"input_blocks.{i}.0" for i in firsts),
        "out_layers.3",
        tuple(f"input_blocks.{i}.1" for i in firsts),
        downs[0] - 1,
    )


def is_hub_named(section: Section) -> bool:
    """Whether the tensors of a U-Net or ControlNet have the Hub's names."""
    return any(name.startswith("down_blocks.") for name in section.shapes)


def encoder_config(section: Section, names: UNetNames) -> dict[str, Any]:
    """The fields that describe the encoder and the middle of a U-Net, which a ControlNet has as well."""

    def shape(name: str, dims: int = 4) -> tuple[int, ...]:
        return section.shape(name, "U-Net", dims)

    cross = [f"{attention}.norm.weight" in section.shapes for attention in names.attentions]
    depths = [section.count(f"{attention}.transformer_blocks") or 1 for attention in names.attentions]
    widths = [shape(f"{resnet}.{names.last}.weight")[0] for resnet in names.resnets]
    linear = len(section.shapes.get(f"{names.middle}.proj_in.weight", ())) == 2
    return {
        "in_channels": shape(f"{names.conv_in}.weight")[1],
        "block_out_channels": widths,
        "down_block_types": ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in cross],
        "up_block_types": ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(cross)],
        "layers_per_block": names.layers,
        "transformer_layers_per_block": [*depths[:-1], section.count(f"{names.middle}.transformer_blocks")],
        "cross_attention_dim": shape(f"{names.middle}.transformer_blocks.0.attn2.to_k.weight", 2)[1],
        "attention_head_dim": [max(width // _HEAD_DIM, 1) if linear else _HEADS for width in widths],
        "use_linear_projection": linear,
    }


def reads_pooled_text(section: Section) -> bool:
    """Whether a U-Net is conditioned on pooled text and ids, as those of XL are."""
    return f"{names_of(section).added}.weight" in section.shapes


def context_width(section: Section) -> int:
    """Width of the text states that a U-Net reads."""
    return section.shape(f"{names_of(section).middle}.transformer_blocks.0.attn2.to_k.weight", "U-Net", 2)[1]


def load_alone(section: Section, loader: Loader) -> UNet:
    """Build the U-Net of a file whose text encoders are unknown, to check its tensors; see `load`."""
    raw = infer_config(section, None, 64)
    if reads_pooled_text(section):  # how its width divides into text and ids changes no shape
        raw |= added_config(section.shape(f"{names_of(section).added}.weight", "U-Net", 2)[1], 2)
    return _add(section, raw, loader)


def load(section: Section, added: Added | None, loader: Loader, *, size: int) -> UNet:
    """Build the U-Net of `section`; the loader reads its weights. See `infer_config` for the arguments.

    Raises:
        ValueError: If tensors are missing, unexpected, misshaped or of the wrong type; each is named.
    """
    return _add(section, infer_config(section, added, size), loader)


def _add(section: Section, raw: dict[str, Any], loader: Loader) -> UNet:
    config = section.config(UNetConfig.from_dict, raw)
    network = section.build(lambda: UNet(config))
    convert = renamed(unchanged_name) if is_hub_named(section) else by_name(key_map(network))
    return add_section(network, section, convert, loader)
