"""Architecture of a FLUX.2 transformer, read from its config.json."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from ..config import COUNT, EMA_LEFTOVERS, POSITIVE, QUANTIZED, SWITCH, TRAINING_LEFTOVERS, WIDTH, WIDTHS, Table
from ..config import NONE as NULL
from ..json_config import HeadsConfig

OWNER: Final = "Flux2Transformer2DModel"
TABLE: Final = Table(
    OWNER,
    names=(OWNER,),
    kinds={
        **dict.fromkeys(("in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim"), WIDTH),
        **dict.fromkeys(("num_layers", "num_single_layers"), COUNT),
        **dict.fromkeys(("mlp_ratio", "rope_theta"), POSITIVE),
        "out_channels": WIDTH | NULL,
        "timestep_guidance_channels": WIDTH,
        "guidance_embeds": SWITCH,
        "axes_dims_rope": WIDTHS,
    },
    only={"patch_size": (1,), "eps": (1e-6,)},
    ignored={**EMA_LEFTOVERS, **TRAINING_LEFTOVERS},
    needs={"quantization_config": QUANTIZED},
)


@dataclass(frozen=True)
class Flux2Config(HeadsConfig):
    """Architecture of a FLUX.2 transformer; field names and defaults are those of its config.json.

    Attributes:
        in_channels: channels of the latents.
        out_channels: channels of the prediction; None means in_channels.
        num_layers: number of double-stream blocks.
        num_single_layers: number of single-stream blocks.
        attention_head_dim: channels per head.
        num_attention_heads: number of heads.
        joint_attention_dim: width of the text encoder's states.
        timestep_guidance_channels: number of sinusoids of time and guidance.
        mlp_ratio: inner width of feed-forward networks in multiples of the tokens' width.
        axes_dims_rope: channels per head rotated by each axis (time, row, column, text); their sum is
            attention_head_dim.
        rope_theta: base of the rotary frequencies.
        guidance_embeds: whether the network is conditioned on the guidance strength.
    """

    table: ClassVar[Table] = TABLE

    in_channels: int = 128
    out_channels: int | None = None
    num_layers: int = 8
    num_single_layers: int = 48
    attention_head_dim: int = 128
    num_attention_heads: int = 48
    joint_attention_dim: int = 15360
    timestep_guidance_channels: int = 256
    mlp_ratio: float = 3.0
    axes_dims_rope: tuple[int, ...] = (32, 32, 32, 32)
    rope_theta: float = 2000.0
    guidance_embeds: bool = True

    def check(self) -> None:
        self.check_axes("axes_dims_rope", 4, self.attention_head_dim, "attention_head_dim")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of a config.json that `from_dict` reads as this architecture."""
        return {
            **asdict(self),
            "_class_name": OWNER,
            "patch_size": 1,
            "eps": 1e-6,
            "axes_dims_rope": list(self.axes_dims_rope),
        }
