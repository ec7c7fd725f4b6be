"""The architecture of a Flux transformer, read from its config.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..config import COUNT, EMA_LEFTOVERS, NONE, QUANTIZED, SWITCH, TRAINING_LEFTOVERS, WIDTH, WIDTHS, Table

PATCH = 2
"""Latent positions along each side of an image token."""
OWNER = "FluxTransformer2DModel"
TABLE = Table(
    OWNER,
    names=(OWNER,),
    kinds={
        "in_channels": WIDTH,
        "attention_head_dim": WIDTH,
        "num_attention_heads": WIDTH,
        "joint_attention_dim": WIDTH,
        "pooled_projection_dim": WIDTH,
        "out_channels": WIDTH | NONE,
        "num_layers": COUNT,
        "num_single_layers": COUNT,
        "guidance_embeds": SWITCH,
        "axes_dims_rope": WIDTHS,
    },
    only={"patch_size": (1,)},
    ignored={**EMA_LEFTOVERS, **TRAINING_LEFTOVERS},
    needs={
        "quantization_config": QUANTIZED,
        "method": "rotary embeddings stretched by the network itself (UltraFlux) are not supported",
    },
)


@dataclass(frozen=True)
class FluxConfig:
    """Architecture of a Flux transformer; field names and defaults are those of its config.json.

    `in_channels` and `out_channels` (None: the same) are those of a token: four times the latent's.
    """

    in_channels: int = 64
    out_channels: int | None = None
    num_layers: int = 19
    num_single_layers: int = 38
    attention_head_dim: int = 128
    num_attention_heads: int = 24
    joint_attention_dim: int = 4096
    pooled_projection_dim: int = 768
    guidance_embeds: bool = False
    axes_dims_rope: tuple[int, int, int] = (16, 56, 56)

    @property
    def dim(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    @property
    def latent_channels(self) -> int:
        return self.in_channels // PATCH**2

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Reads a config.json; raises ValueError if a field has a wrong value, or asks for what is not supported."""
        config = cls(**TABLE.read(raw))
        for name in ("in_channels", "out_channels"):
            channels = getattr(config, name)
            if channels is not None and (channels < 1 or channels % PATCH**2):
                raise ValueError(f"{OWNER} config: {name}={channels}: a token is {PATCH**2} positions of the latent")
        axes = config.axes_dims_rope
        if len(axes) != 3 or any(dim % 2 for dim in axes) or sum(axes) != config.attention_head_dim:
            raise ValueError(
                f"{OWNER} config: axes_dims_rope={list(axes)}: three even numbers whose sum is "
                f"attention_head_dim={config.attention_head_dim} are needed"
            )
        return config
