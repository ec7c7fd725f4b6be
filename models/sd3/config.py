"""Architecture of a Stable Diffusion 3 transformer, read from its config.json."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from ..config import COUNT, EMA_LEFTOVERS, QUANTIZED, TRAINING_LEFTOVERS, WIDTH, Kind, Table, list_of, whole
from ..config import NONE as NULL
from ..json_config import HeadsConfig

OWNER: Final = "SD3Transformer2DModel"
PATCH: Final = 2
"""Latent positions along each side of an image token."""
_NO_LAYERS = Kind("an empty list", lambda value: value in ([], ()), tuple)
TABLE: Final = Table(
    OWNER,
    names=(OWNER,),
    kinds={
        **dict.fromkeys(("in_channels", "out_channels", "attention_head_dim", "num_attention_heads"), WIDTH),
        **dict.fromkeys(("joint_attention_dim", "caption_projection_dim", "pooled_projection_dim"), WIDTH),
        **dict.fromkeys(("pos_embed_max_size", "sample_size"), WIDTH),
        "num_layers": COUNT,
        "dual_attention_layers": list_of(whole(0, 1000), "numbers of layers", 1000) | _NO_LAYERS,
        "qk_norm": Kind('"rms_norm"', lambda value: value == "rms_norm") | NULL,
    },
    only={"patch_size": (PATCH,)},
    ignored={**EMA_LEFTOVERS, **TRAINING_LEFTOVERS},
    needs={"quantization_config": QUANTIZED},
)


@dataclass(frozen=True)
class SD3Config(HeadsConfig):
    """Architecture of a Stable Diffusion 3 transformer; field names and defaults are those of its config.json.

    Attributes:
        in_channels: channels of the latents.
        out_channels: channels of the prediction.
        num_layers: number of blocks.
        attention_head_dim: channels per head.
        num_attention_heads: number of heads.
        joint_attention_dim: width of the text states.
        caption_projection_dim: width of the text tokens, that of the image tokens.
        pooled_projection_dim: width of the pooled text.
        pos_embed_max_size: side of the stored grid of positions, in tokens.
        sample_size: side of the latents in training.
        dual_attention_layers: indices of the blocks with a second attention of the image tokens.
        qk_norm: norm of queries and keys: "rms_norm" or None.
    """

    table: ClassVar[Table] = TABLE

    in_channels: int = 16
    out_channels: int = 16
    num_layers: int = 18
    attention_head_dim: int = 64
    num_attention_heads: int = 18
    joint_attention_dim: int = 4096
    caption_projection_dim: int = 1152
    pooled_projection_dim: int = 2048
    pos_embed_max_size: int = 96
    sample_size: int = 128
    dual_attention_layers: tuple[int, ...] = ()
    qk_norm: str | None = None

    def check(self) -> None:
        if self.caption_projection_dim != self.dim:
            raise ValueError(
                f"{OWNER} config: caption_projection_dim={self.caption_projection_dim} is not num_attention_heads * "
                f"attention_head_dim={self.dim}"
            )
        beyond = [layer for layer in self.dual_attention_layers if layer >= self.num_layers]
        if beyond:
            raise ValueError(f"{OWNER} config: dual_attention_layers has {beyond[0]}, num_layers={self.num_layers}")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of a config.json that `from_dict` reads as this architecture."""
        layers = list(self.dual_attention_layers)
        return {**asdict(self), "_class_name": OWNER, "patch_size": PATCH, "dual_attention_layers": layers}
