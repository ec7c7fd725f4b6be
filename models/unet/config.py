"""Architecture of a conditional U-Net, read from its config.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ..config import Table, per_level
from .fields import TABLE

_CROSS, _PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")

_DEFAULT_WIDTHS = (320, 640, 1280, 1280)


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of a conditional U-Net; tuples have one entry per level, outermost first.

    Attributes:
        sample_size: side, or (height, width), of the training latents.
        in_channels: channels of the input.
        out_channels: channels of the prediction.
        block_out_channels: channels of each level.
        cross_attention: whether each level has cross-attention.
        layers_per_block: residual blocks per level on the way down; one more on the way up.
        transformer_layers_per_block: transformer blocks per attention layer.
        heads: number of heads; `num_attention_heads` in config.json or, by an old error that the Hub keeps,
            `attention_head_dim`.
        cross_attention_dim: width of the text context.
        use_linear_projection: whether transformers project with linear layers instead of 1x1 convolutions.
        norm_num_groups: groups of the norms.
        norm_eps: epsilon of the norms.
        flip_sin_to_cos: whether the timestep's cosines precede its sines.
        freq_shift: see `sinusoids`.
        mid_attention: whether the middle has a transformer.
        added_width: width of pooled text and embedded time ids together (text_time conditioning); None without.
        time_id_width: number of sinusoidal features per time id; None without.
        class_width: width of a vector given instead of a class label (simple_projection); None without.
        class_embeddings_concat: concatenate the class embedding to the time embedding instead of adding it.
        guidance_width: number of sinusoidal features of the guidance strength (time_cond_proj_dim), for networks
            distilled on it (Luo et al. 2023, arXiv 2310.04378); None without.
        spatial_attention: whether attention layers are self-attention over the positions of the map, as in UNet2DModel,
            instead of transformers that read a text. `cross_attention` tells the levels that have them.
        pad_after: whether downsamplers pad only right and bottom.
        classes: number of class labels; None without.
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
    spatial_attention: bool = False
    pad_after: bool = False
    classes: int | None = None

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.block_out_channels)

    @property
    def shells(self) -> tuple[tuple[int, int], ...]:
        """(level, layer) of each skip connection, outermost first; see `UNet`."""
        return tuple(
            (level, layer) for level, layers in enumerate(self.layers_per_block) for layer in range(layers + 1)
        )

    @property
    def time_width(self) -> int:
        """Width of the embedding that residual blocks read: time, and class if concatenated."""
        return 4 * self.block_out_channels[0] * (2 if self.class_embeddings_concat else 1)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], table: Table = TABLE) -> Self:
        """Reads a config.json.

        Args:
            raw: the JSON object.
            table: the fields of the class that wrote it.

        Raises:
            ValueError: if a field has a wrong value or requires an unsupported feature.
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
        check_consistency(owner, config, values.get("time_embedding_dim"))
        return config

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of a config.json that `from_dict` reads as this architecture."""
        downs = [_CROSS[0] if has else _PLAIN[0] for has in self.cross_attention]
        ups = [_CROSS[1] if has else _PLAIN[1] for has in reversed(self.cross_attention)]
        config = {
            "_class_name": "UNet2DConditionModel",
            "sample_size": self.sample_size,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "block_out_channels": list(self.block_out_channels),
            "down_block_types": downs,
            "mid_block_type": "UNetMidBlock2DCrossAttn" if self.mid_attention else "UNetMidBlock2D",
            "up_block_types": ups,
            "layers_per_block": _joined(self.layers_per_block),
            "transformer_layers_per_block": _joined(self.transformer_layers_per_block),
            "attention_head_dim": _joined(self.heads),
            "cross_attention_dim": _joined(self.cross_attention_dim),
            "use_linear_projection": self.use_linear_projection,
            "norm_num_groups": self.norm_num_groups,
            "norm_eps": self.norm_eps,
            "flip_sin_to_cos": self.flip_sin_to_cos,
            "freq_shift": int(self.freq_shift) if self.freq_shift == int(self.freq_shift) else self.freq_shift,
        }
        if self.added_width is not None:
            config |= {"addition_embed_type": "text_time", "projection_class_embeddings_input_dim": self.added_width}
            config["addition_time_embed_dim"] = self.time_id_width
        if self.class_width is not None:
            config |= {"class_embed_type": "simple_projection", "class_embeddings_concat": self.class_embeddings_concat}
            config["projection_class_embeddings_input_dim"] = self.class_width
        return config if self.guidance_width is None else {**config, "time_cond_proj_dim": self.guidance_width}


def _joined(values: tuple[int, ...]) -> int | list[int]:
    """Returns one number if all levels have the same, as published configs do, or a list."""
    return values[0] if len(set(values)) == 1 else list(values)


def check_consistency(owner: str, config: UNetConfig, time_embedding_dim: int | None) -> None:
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
                f"{owner} config: {width} in block_out_channels must be a multiple of {count} heads "
                f"(attention_head_dim) and of {config.norm_num_groups} groups (norm_num_groups)"
            )


def _cross_attention(owner: str, values: Mapping[str, Any], levels: int) -> tuple[bool, ...]:
    """Returns whether each level has cross-attention, outermost first."""
    downs = values.get("down_block_types", (_CROSS[0],) * (levels - 1) + (_PLAIN[0],))
    ups = values.get("up_block_types", (_PLAIN[1],) + (_CROSS[1],) * (levels - 1))
    return levels_with(owner, _CROSS, downs, ups, levels)


def levels_with(
    owner: str, attending: tuple[str, str], downs: Sequence[str], ups: Sequence[str], levels: int
) -> tuple[bool, ...]:
    """Returns whether each level has attention, outermost first.

    Args:
        owner: the class, for error messages.
        attending: names of blocks with attention, on the way down and up.
        downs: types of the blocks on the way down.
        ups: types on the way up.
        levels: number of levels.

    Raises:
        ValueError: if a type is unknown, or the way up is not the mirror of the way down.
    """
    for field, types, known in (
        ("down_block_types", downs, (attending[0], _PLAIN[0])),
        ("up_block_types", ups, (attending[1], _PLAIN[1])),
    ):
        unknown = [block for block in types if block not in known]
        if unknown or len(types) != levels:
            raise ValueError(f"{owner} config: {field}={list(types)!r} must be {levels} of {', '.join(known)}")
    has = tuple(block == attending[0] for block in downs)
    if has != tuple(block == attending[1] for block in reversed(ups)):
        raise ValueError(f"{owner} config: up_block_types={list(ups)!r} is not the mirror of {list(downs)!r}")
    return has


def _needed(owner: str, raw: Mapping[str, Any], values: Mapping[str, Any], choice: str, field: str) -> int | None:
    """Returns the value of `field` if the feature selected by `choice` needs it, else None."""
    if raw.get(choice) is None:
        return None
    value: int | None = values.get(field)
    if value is None:
        raise ValueError(f"{owner} config: {choice}={raw[choice]!r} needs a positive {field}, got null")
    return value
