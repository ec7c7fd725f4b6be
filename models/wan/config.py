"""Architecture of a Wan transformer, read from its config.json."""

from dataclasses import asdict, dataclass
from math import prod
from typing import Any, ClassVar, Final

from ..config import COUNT, EMA_LEFTOVERS, POSITIVE, QUANTIZED, TRAINING_LEFTOVERS, WIDTH, WIDTHS, Table
from ..config import NONE as NULL
from ..json_config import HeadsConfig

OWNER: Final = "WanTransformer3DModel"
TABLE: Final = Table(
    OWNER,
    names=(OWNER,),
    kinds={
        **dict.fromkeys(("num_attention_heads", "attention_head_dim", "in_channels", "text_dim", "ffn_dim"), WIDTH),
        **dict.fromkeys(("out_channels", "image_dim", "added_kv_proj_dim"), WIDTH | NULL),
        "freq_dim": WIDTH,
        "num_layers": COUNT,
        "patch_size": WIDTHS,
        "eps": POSITIVE,
    },
    only={"cross_attn_norm": (True,), "qk_norm": ("rms_norm_across_heads",), "pos_embed_seq_len": (None,)},
    ignored={
        **EMA_LEFTOVERS,
        **TRAINING_LEFTOVERS,
        "rope_max_seq_len": "the rotary table is made for the size at hand",
        "window_size": "attention is not windowed in any published checkpoint",
        "add_img_emb": "image_dim says it",
    },
    needs={
        "quantization_config": QUANTIZED,
        "pos_embed_seq_len": "it reads a first and a last frame",
    },
)


@dataclass(frozen=True)
class WanConfig(HeadsConfig):
    """Architecture of a Wan transformer; field names and defaults are those of its config.json.

    Attributes:
        patch_size: latent frames, rows and columns of a token.
        num_attention_heads: number of heads.
        attention_head_dim: channels per head.
        in_channels: channels of the network's input: the latents, and for image-to-video what is read beside them.
        out_channels: channels of the prediction; None means in_channels.
        text_dim: width of the text encoder's states.
        freq_dim: number of sinusoids of the time.
        ffn_dim: inner width of the feed-forward networks.
        num_layers: number of blocks.
        eps: epsilon of all norms.
        image_dim: width of the states of the image encoder; None without one.
        added_kv_proj_dim: width of the image tokens that cross-attention reads; None without them.
    """

    table: ClassVar[Table] = TABLE

    patch_size: tuple[int, ...] = (1, 2, 2)
    num_attention_heads: int = 40
    attention_head_dim: int = 128
    in_channels: int = 16
    out_channels: int | None = 16
    text_dim: int = 4096
    freq_dim: int = 256
    ffn_dim: int = 13824
    num_layers: int = 40
    eps: float = 1e-6
    image_dim: int | None = None
    added_kv_proj_dim: int | None = None

    @property
    def predicted_channels(self) -> int:
        """Channels of the prediction, and of the latents."""
        return self.out_channels or self.in_channels

    @property
    def token_channels(self) -> int:
        """Numbers that an output token holds."""
        return self.predicted_channels * prod(self.patch_size)

    @property
    def axes(self) -> tuple[int, int, int]:
        """Channels per head that are rotated by the frame, the row and the column."""
        side = 2 * (self.attention_head_dim // 6)
        return self.attention_head_dim - 2 * side, side, side

    def check(self) -> None:
        patch = self.patch_size
        if len(patch) != 3 or patch[0] != 1 or patch[1] != patch[2]:
            raise ValueError(f"{OWNER} config: patch_size={list(patch)} must be [1, n, n]")
        if self.attention_head_dim % 2 or self.attention_head_dim < 6:
            raise ValueError(f"{OWNER} config: attention_head_dim={self.attention_head_dim} must be even, at least 6")
        if self.added_kv_proj_dim != (None if self.image_dim is None else self.dim):
            raise ValueError(
                f"{OWNER} config: added_kv_proj_dim={self.added_kv_proj_dim} must be {self.dim}, the width of the "
                f"tokens, if image_dim is a number, and null otherwise; image_dim={self.image_dim}"
            )
        if self.in_channels < self.predicted_channels:
            raise ValueError(
                f"{OWNER} config: out_channels={self.predicted_channels} is more than in_channels={self.in_channels}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of a config.json that `from_dict` reads as this architecture."""
        return {
            **asdict(self),
            "_class_name": OWNER,
            "patch_size": list(self.patch_size),
            "cross_attn_norm": True,
            "qk_norm": "rms_norm_across_heads",
        }
