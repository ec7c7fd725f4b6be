"""Architecture of a Chroma transformer, read from its config.json."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from ..config import COUNT, EMA_LEFTOVERS, QUANTIZED, TRAINING_LEFTOVERS, WIDTH, WIDTHS, Table
from ..config import NONE as NULL
from ..streams.packed import PATCH
from ..streams.packed_config import PackedConfig

OWNER: Final = "ChromaTransformer2DModel"
TABLE: Final = Table(
    OWNER,
    names=(OWNER,),
    kinds={
        **dict.fromkeys(("in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim"), WIDTH),
        **dict.fromkeys(("approximator_num_channels", "approximator_hidden_dim"), WIDTH),
        **dict.fromkeys(("num_layers", "num_single_layers", "approximator_layers"), COUNT),
        "out_channels": WIDTH | NULL,
        "axes_dims_rope": WIDTHS,
    },
    only={"patch_size": (1,)},
    ignored={
        **EMA_LEFTOVERS,
        **TRAINING_LEFTOVERS,
        "approximator_in_factor": "no parameter of the published class; approximator_num_channels has the width",
    },
    needs={"quantization_config": QUANTIZED},
)


@dataclass(frozen=True)
class ChromaConfig(PackedConfig):
    """Architecture of a Chroma transformer; field names and defaults are those of its config.json.

    Attributes:
        in_channels: channels of an input token, four times the latent's.
        out_channels: channels of an output token; None means in_channels.
        num_layers: number of double-stream blocks.
        num_single_layers: number of single-stream blocks.
        attention_head_dim: channels per head.
        num_attention_heads: number of heads.
        joint_attention_dim: width of the T5 states.
        axes_dims_rope: channels per head rotated by each axis (text, row, column); their sum is attention_head_dim.
        approximator_num_channels: number of sinusoids that modulations are computed from.
        approximator_hidden_dim: width of the network that computes them.
        approximator_layers: number of its layers.
    """

    table: ClassVar[Table] = TABLE

    in_channels: int = 64
    out_channels: int | None = None
    num_layers: int = 19
    num_single_layers: int = 38
    attention_head_dim: int = 128
    num_attention_heads: int = 24
    joint_attention_dim: int = 4096
    axes_dims_rope: tuple[int, int, int] = (16, 56, 56)
    approximator_num_channels: int = 64
    approximator_hidden_dim: int = 5120
    approximator_layers: int = 5

    def check(self) -> None:
        for name, unit in (("in_channels", PATCH**2), ("approximator_num_channels", 8)):
            if getattr(self, name) % unit:
                raise ValueError(f"{OWNER} config: {name}={getattr(self, name)} must be a multiple of {unit}")
        self.check_axes("axes_dims_rope", 3, self.attention_head_dim, "attention_head_dim")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of a config.json that `from_dict` reads as this architecture."""
        return {**asdict(self), "_class_name": OWNER, "patch_size": 1, "axes_dims_rope": list(self.axes_dims_rope)}
