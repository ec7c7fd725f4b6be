"""Architecture of a Z-Image transformer, read from its config.json."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from ..config import COUNT, EMA_LEFTOVERS, POSITIVE, QUANTIZED, TRAINING_LEFTOVERS, WIDTH, WIDTHS, Table
from ..json_config import JsonConfig

OWNER: Final = "ZImageTransformer2DModel"
PATCH: Final = 2
"""Latent positions along each side of an image token."""
UNIT: Final = 32
"""Text tokens and image tokens are each padded to a multiple of this number with a learned token."""
TABLE: Final = Table(
    OWNER,
    names=(OWNER,),
    kinds={
        **dict.fromkeys(("in_channels", "dim", "n_heads", "cap_feat_dim"), WIDTH),
        **dict.fromkeys(("n_layers", "n_refiner_layers"), COUNT),
        **dict.fromkeys(("norm_eps", "rope_theta", "t_scale"), POSITIVE),
        "axes_dims": WIDTHS,
    },
    only={"all_patch_size": (PATCH,), "all_f_patch_size": (1,), "qk_norm": (True,), "siglip_feat_dim": (None,)},
    ignored={
        **EMA_LEFTOVERS,
        **TRAINING_LEFTOVERS,
        "n_kv_heads": "the published network does not read it",
        "axes_lens": "lengths of tables of positions, which are computed here for the picture at hand",
    },
    needs={
        "quantization_config": QUANTIZED,
        "siglip_feat_dim": "networks that read pictures beside the prompt (Z-Image Omni) are not supported",
    },
)


@dataclass(frozen=True)
class ZImageConfig(JsonConfig):
    """Architecture of a Z-Image transformer; field names and defaults are those of its config.json.

    Attributes:
        in_channels: channels of the latents.
        dim: width of the tokens.
        n_layers: number of blocks on the joint sequence.
        n_refiner_layers: number of blocks on the image tokens alone, and on the text tokens alone.
        n_heads: number of heads.
        norm_eps: eps of the RMS norms of tokens.
        cap_feat_dim: width of the text encoder's states.
        rope_theta: base of the rotary frequencies.
        t_scale: factor between time and the input of its embedding.
        axes_dims: channels per head rotated by each axis (frame, row, column); their sum is dim / n_heads.
    """

    table: ClassVar[Table] = TABLE

    in_channels: int = 16
    dim: int = 3840
    n_layers: int = 30
    n_refiner_layers: int = 2
    n_heads: int = 30
    norm_eps: float = 1e-5
    cap_feat_dim: int = 2560
    rope_theta: float = 256.0
    t_scale: float = 1000.0
    axes_dims: tuple[int, ...] = (32, 48, 48)

    @property
    def embedding_dim(self) -> int:
        """Width of the time embedding."""
        return min(self.dim, 256)

    def check(self) -> None:
        if self.dim % self.n_heads:
            raise ValueError(f"{OWNER} config: dim={self.dim} is not a multiple of n_heads={self.n_heads}")
        self.check_axes("axes_dims", 3, self.dim // self.n_heads, "dim / n_heads")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of a config.json that `from_dict` reads as this architecture."""
        return {
            **asdict(self),
            "_class_name": OWNER,
            "all_patch_size": [PATCH],
            "all_f_patch_size": [1],
            "axes_dims": list(self.axes_dims),
            "n_kv_heads": self.n_heads,
            "qk_norm": True,
        }
