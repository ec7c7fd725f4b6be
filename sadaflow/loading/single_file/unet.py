"""Loads U-Nets of Stable Diffusion 1.x, 2.x and XL in the original layout: names, config inferred from shapes."""

from typing import Any

from sadaflow.models import UNet, UNetConfig

from ..strict import Loader
from .layout import Section, add_section, by_name

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
    split = (name.rpartition(".") for name in network.state_dict())
    return {f"{original_module(module, network.config)}.{leaf}": f"{module}.{leaf}" for module, _, leaf in split}


def infer_config(section: Section, added: Added | None, size: int) -> dict[str, Any]:
    """Infer the config.json of a U-Net from its shapes.

    Numbers of heads and groups do not follow from shapes; they are those of the published models.

    Args:
        section: Its tensors.
        added: See `Added`; None for a network without them (SD 1.x and 2.x).
        size: Side of the latents that it was trained on.

    Raises:
        ValueError: If the shapes are not those of a U-Net.
    """

    def shape(name: str, dims: int = 4) -> tuple[int, ...]:
        return section.shape(name, "U-Net", dims)

    names = section.shapes
    downs = [i for i in range(section.count("input_blocks")) if f"input_blocks.{i}.0.op.weight" in names]
    if not downs or not downs[0]:
        raise ValueError(f"{section.label}: no U-Net in the original layout: it has no downsampling")
    per_level = downs[0]
    levels = section.count("input_blocks") // per_level
    firsts = [1 + level * per_level for level in range(levels)]
    cross = [f"input_blocks.{i}.1.norm.weight" in names for i in firsts]
    middle = section.count("middle_block.1.transformer_blocks")
    depths = [section.count(f"input_blocks.{i}.1.transformer_blocks") or 1 for i in firsts]
    widths = [shape(f"input_blocks.{i}.0.out_layers.3.weight")[0] for i in firsts]
    linear = len(names.get("middle_block.1.proj_in.weight", ())) == 2
    config: dict[str, Any] = {
        "sample_size": size,
        "in_channels": shape("input_blocks.0.0.weight")[1],
        "out_channels": shape("out.2.weight")[0],
        "block_out_channels": widths,
        "down_block_types": ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in cross],
        "up_block_types": ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(cross)],
        "layers_per_block": per_level - 1,
        "transformer_layers_per_block": [*depths[:-1], middle],
        "cross_attention_dim": shape("middle_block.1.transformer_blocks.0.attn2.to_k.weight", 2)[1],
        "attention_head_dim": [max(width // _HEAD_DIM, 1) if linear else _HEADS for width in widths],
        "use_linear_projection": linear,
    }
    if added is not None:
        (pooled, ids), width = added, shape("label_emb.0.0.weight", 2)[1]
        each, rest = divmod(width - pooled, ids)
        if each < 2 or rest or each % 2:
            raise ValueError(
                f"{section.label}: label_emb is {width} wide, which is not pooled text of {pooled} and {ids} sinusoids"
            )
        config |= {"addition_embed_type": "text_time", "projection_class_embeddings_input_dim": width}
        config["addition_time_embed_dim"] = each
    return config


def load(section: Section, added: Added | None, loader: Loader, *, size: int) -> UNet:
    """Build the U-Net of `section`; the loader reads its weights. See `infer_config` for `added` and `size`.

    Raises:
        ValueError: If tensors are missing, unexpected, misshaped or of the wrong type; each is named.
    """
    config = section.config(UNetConfig.from_dict, infer_config(section, added, size))
    network = section.build(lambda: UNet(config))
    return add_section(network, section, by_name(key_map(network)), loader)
