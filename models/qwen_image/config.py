"""Architecture of a Qwen-Image transformer, read from its config.json."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from ..config import COUNT, EMA_LEFTOVERS, FLAG, QUANTIZED, TRAINING_LEFTOVERS, WIDTH, WIDTHS, Table
from ..streams.packed import PATCH
from ..streams.packed_config import PackedConfig

OWNER: Final = "QwenImageTransformer2DModel"
_LAYERED: Final = "Qwen-Image-Layered samples several layers of a picture"
TABLE: Final = Table(
    OWNER,
    names=(OWNER,),
    kinds={
        **dict.fromkeys(("in_channels", "out_channels", "joint_attention_dim"), WIDTH),
        **dict.fromkeys(("attention_head_dim", "num_attention_heads"), WIDTH),
        "num_layers": COUNT,
        "axes_dims_rope": WIDTHS,
        "zero_cond_t": FLAG,
    },
    only={
        "patch_size": (PATCH,),
        "guidance_embeds": (False,),
        "use_additional_t_cond": (False,),
        "use_layer3d_rope": (False,),
    },
    ignored={
        **EMA_LEFTOVERS,
        **TRAINING_LEFTOVERS,
        "pooled_projection_dim": "no parameter of the published class",
    },
    needs={
        "quantization_config": QUANTIZED,
        "guidance_embeds": "no checkpoint with embedded guidance is published",
        "use_additional_t_cond": _LAYERED,
        "use_layer3d_rope": _LAYERED,
    },
)


@dataclass(frozen=True)
class QwenImageConfig(PackedConfig):
    """Architecture of a Qwen-Image transformer; field names and defaults are those of its config.json.

    Attributes:
        in_channels: channels of an input token, four times the latent's.
        out_channels: channels of the predicted latents.
        num_layers: number of blocks.
        attention_head_dim: channels per head.
        num_attention_heads: number of heads.
        joint_attention_dim: width of the text states.
        axes_dims_rope: channels per head rotated by each axis (picture, row, column); they sum to attention_head_dim.
        zero_cond_t: whether tokens of pictures to edit are modulated as at time 0, where they are clean.
    """

    table: ClassVar[Table] = TABLE

    in_channels: int = 64
    out_channels: int = 16
    num_layers: int = 60
    attention_head_dim: int = 128
    num_attention_heads: int = 24
    joint_attention_dim: int = 3584
    axes_dims_rope: tuple[int, int, int] = (16, 56, 56)
    zero_cond_t: bool = False

    def check(self) -> None:
        if self.in_channels != PATCH**2 * self.out_channels:
            raise ValueError(
                f"{OWNER} config: in_channels={self.in_channels} must be {PATCH**2} times out_channels="
                f"{self.out_channels}"
            )
        self.check_axes("axes_dims_rope", 3, self.attention_head_dim, "attention_head_dim")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of a config.json that `from_dict` reads as this architecture."""
        axes = list(self.axes_dims_rope)
        return {**asdict(self), "_class_name": OWNER, "patch_size": PATCH, "axes_dims_rope": axes}
