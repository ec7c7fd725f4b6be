"""The architecture of a conditional U-Net, read from the config.json of a Hub's UNet2DConditionModel."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..config import Table, per_level
from .fields import TABLE

_CROSS, _PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")

_DEFAULT_WIDTHS = (320, 640, 1280, 1280)


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of a conditional U-Net, one entry per level (outermost first) in each tuple.

    `heads` is what config.json calls `num_attention_heads` or, by an old mistake that the Hub keeps,
    `attention_head_dim`. `added_width` and `time_id_width` are set where the network reads pooled text and time ids
    (text_time): the width of both together, and of the sinusoids of one id. `class_width` is set where it reads a
    vector in the place of a class label (simple_projection). `guidance_width` is set where it embeds the strength of
    guidance (time_cond_proj_dim, of networks distilled on it: Luo et al. 2023, arXiv 2310.04378): the width of its
    sinusoids.
    """

    sample_size: int | tuple[int, ...] | None
    in_channels: int
    out_channels: int
    block_out_channels: tuple[int, ...]
    cross_attention: tuple[bool, ...]
    layers_per_block: tuple[int, ...]
    transformer_layers_per_block: tuple[int, ...]
    heads: tuple[int, ...]
    cross_attention_dim: tuple[int, ...]
    use_linear_projection: bool
    norm_num_groups: int
    norm_eps: float
    flip_sin_to_cos: bool
    freq_shift: float
    mid_attention: bool
    added_width: int | None
    time_id_width: int | None
    class_width: int | None
    class_embeddings_concat: bool
    guidance_width: int | None = None

    @property
    def levels(self) -> int:
        return len(self.block_out_channels)

    @property
    def shells(self) -> tuple[tuple[int, int], ...]:
        """(level, layer) of each skip connection, outermost first; see `UNet` for what lies inside each."""
        return tuple(
            (level, layer) for level, layers in enumerate(self.layers_per_block) for layer in range(layers + 1)
        )

    @property
    def time_width(self) -> int:
        """Width of what the residual blocks read: the time embedding, and the class embedding where it is joined."""
        return 4 * self.block_out_channels[0] * (2 if self.class_embeddings_concat else 1)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], table: Table = TABLE) -> Self:
        """Reads a config.json.

        Args:
            raw: the JSON object.
            table: the fields of the class that wrote it.

        Raises:
            ValueError: a field has a wrong value, or asks for what is not supported.
        """
        owner, values = table.owner, table.read(raw)
        widths = values.get("block_out_channels", _DEFAULT_WIDTHS)
        levels = len(widths)
        heads = values.get("num_attention_heads") or values.get("attention_head_dim", 8)

        def spread(field: str, default: Any) -> tuple[Any, ...]:
            return per_level(owner, field, values.get(field, default), levels)

        config = cls(
            sample_size=values.get("sample_size"),
            in_channels=values.get("in_channels", 4),
            out_channels=values.get("out_channels", 4),
            block_out_channels=widths,
            cross_attention=_cross_attention(owner, values, levels),
            layers_per_block=spread("layers_per_block", 2),
            transformer_layers_per_block=spread("transformer_layers_per_block", 1),
            heads=per_level(owner, "attention_head_dim", heads, levels),
            cross_attention_dim=spread("cross_attention_dim", 1280),
            use_linear_projection=values.get("use_linear_projection", False),
            norm_num_groups=values.get("norm_num_groups", 32),
            norm_eps=values.get("norm_eps", 1e-5),
            flip_sin_to_cos=values.get("flip_sin_to_cos", True),
            freq_shift=values.get("freq_shift", 0.0),
            mid_attention=raw.get("mid_block_type") != "UNetMidBlock2D",
            added_width=_needed(owner, raw, values, "addition_embed_type", "projection_class_embeddings_input_dim"),
            time_id_width=_needed(owner, raw, values, "addition_embed_type", "addition_time_embed_dim"),
            class_width=_needed(owner, raw, values, "class_embed_type", "projection_class_embeddings_input_dim"),
            class_embeddings_concat=values.get("class_embeddings_concat", False),
            guidance_width=values.get("time_cond_proj_dim"),
        )
        _check_consistency(owner, config, values.get("time_embedding_dim"))
        return config


def _check_consistency(owner: str, config: UNetConfig, time_embedding_dim: int | None) -> None:
    """Raises ValueError if fields contradict each other."""
    if config.class_embeddings_concat and config.class_width is None:
        raise ValueError(f"{owner} config: class_embeddings_concat=True needs class_embed_type")
    widths = config.block_out_channels
    if time_embedding_dim not in (None, 4 * widths[0]):
        raise ValueError(
            f"{owner} config: time_embedding_dim={time_embedding_dim} is not supported; supported: null and "
            f"{4 * widths[0]}, four times the first of block_out_channels"
        )
    for width, count in zip(widths, config.heads, strict=True):
        if width % count or width % config.norm_num_groups:
            raise ValueError(
                f"{owner} config: block_out_channels has {width}, which {count} heads (attention_head_dim) and "
                f"{config.norm_num_groups} groups (norm_num_groups) must both divide"
            )


def _cross_attention(owner: str, values: Mapping[str, Any], levels: int) -> tuple[bool, ...]:
    """Whether each level has cross-attention, outermost first."""
    downs = values.get("down_block_types", (_CROSS[0],) * (levels - 1) + (_PLAIN[0],))
    ups = values.get("up_block_types", (_PLAIN[1],) + (_CROSS[1],) * (levels - 1))
    for field, kinds, known in (
        ("down_block_types", downs, (_CROSS[0], _PLAIN[0])),
        ("up_block_types", ups, (_CROSS[1], _PLAIN[1])),
    ):
        unknown = [kind for kind in kinds if kind not in known]
        if unknown or len(kinds) != levels:
            raise ValueError(f"{owner} config: {field}={list(kinds)!r}; {levels} of {', '.join(known)} are needed")
    cross = tuple(kind == _CROSS[0] for kind in downs)
    if cross != tuple(kind == _CROSS[1] for kind in reversed(ups)):
        raise ValueError(f"{owner} config: up_block_types={list(ups)!r} is not the mirror of {list(downs)!r}")
    return cross


def _needed(owner: str, raw: Mapping[str, Any], values: Mapping[str, Any], kind: str, field: str) -> int | None:
    """The value of `field` if the choice made by the field `kind` needs it, else None."""
    if raw.get(kind) is None:
        return None
    value: int | None = values.get(field)
    if value is None:
        raise ValueError(f"{owner} config: {kind}={raw[kind]!r} needs a positive {field}, got null")
    return value
