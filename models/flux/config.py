"""Architecture of a Flux transformer, read from its config.json."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ..config import COUNT, EMA_LEFTOVERS, NONE, QUANTIZED, SWITCH, TRAINING_LEFTOVERS, WIDTH, WIDTHS, Table
from ..streams.packed import PATCH
from ..streams.packed_config import PackedConfig

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
        "method": "rotary embeddings scaled by the network (UltraFlux) are not supported",
    },
)


@dataclass(frozen=True)
class FluxConfig(PackedConfig):
    """Architecture of a Flux transformer; field names and defaults are those of its config.json.

    Attributes:
        in_channels: channels of an input token, four times the latent's.
        out_channels: channels of an output token; None means in_channels.
        num_layers: number of double-stream blocks.
        num_single_layers: number of single-stream blocks.
        attention_head_dim: channels per head.
        num_attention_heads: number of heads.
        joint_attention_dim: width of the T5 states.
        pooled_projection_dim: width of the pooled text.
        guidance_embeds: whether the network is conditioned on the guidance strength.
        axes_dims_rope: channels per head rotated by each axis (text, row, column); their sum is attention_head_dim.
    """

    table: ClassVar[Table] = TABLE

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

    def check(self) -> None:
        for name in ("in_channels", "out_channels"):
            channels = getattr(self, name)
            if channels is not None and (channels < 1 or channels % PATCH**2):
                raise ValueError(f"{OWNER} config: {name}={channels} must be a multiple of {PATCH**2}")
        self.check_axes("axes_dims_rope", 3, self.attention_head_dim, "attention_head_dim")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of a config.json that `from_dict` reads as this architecture."""
        return {
            **asdict(self),
            "_class_name": OWNER,
            "patch_size": 1,
            "axes_dims_rope": list(self.axes_dims_rope),
        }
