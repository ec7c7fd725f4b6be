"""Architecture of a class-conditional diffusion transformer, read from its config.json."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ..config import COUNT, EMA_LEFTOVERS, NONE, POSITIVE, QUANTIZED, SWITCH, TRAINING_LEFTOVERS, WIDTH, Table
from ..json_config import HeadsConfig

OWNER = "DiTTransformer2DModel"
_OLD_OWNER = "Transformer2DModel"
TABLE = Table(
    OWNER,
    names=(OWNER, _OLD_OWNER),
    kinds={
        "attention_bias": SWITCH,
        "attention_head_dim": WIDTH,
        "in_channels": WIDTH,
        "norm_eps": POSITIVE,
        "num_attention_heads": WIDTH,
        "num_embeds_ada_norm": WIDTH,
        "num_layers": COUNT,
        "out_channels": WIDTH | NONE,
        "patch_size": WIDTH,
        "sample_size": WIDTH,
    },
    only={
        "activation_fn": ("gelu-approximate",),
        "attention_type": ("default", None),
        "caption_channels": (None,),
        "cross_attention_dim": (None,),
        "double_self_attention": (False, None),
        "interpolation_scale": (None, 1),
        "norm_elementwise_affine": (False,),
        "norm_type": ("ada_norm_zero",),
        "num_vector_embeds": (None,),
        "only_cross_attention": (False, None),
        "use_additional_conditions": (None, False),
        "use_linear_projection": (False, None),
    },
    ignored={
        **EMA_LEFTOVERS,
        **TRAINING_LEFTOVERS,
        "dropout": "dropout is off outside training",
        "norm_num_groups": "there are no group norms",
        "upcast_attention": "attention accumulates in float32 for inputs of any dtype",
    },
    needs={
        "caption_channels": "the transformer of PixArt, which reads a text",
        "norm_type": "the transformer of another model: DiT has ada_norm_zero",
        "quantization_config": QUANTIZED,
    },
)


@dataclass(frozen=True)
class DiTConfig(HeadsConfig):
    """Architecture of a DiT; field names and defaults are those of its config.json.

    Attributes:
        num_attention_heads: number of heads.
        attention_head_dim: channels per head.
        in_channels: channels of the latents.
        out_channels: channels of the output: as many, or twice as many with a learned variance; None means as many.
        num_layers: number of blocks.
        attention_bias: whether queries, keys and values have a bias.
        sample_size: positions along each side of the training latents.
        patch_size: positions along each side of a token.
        num_embeds_ada_norm: number of class labels; one more stands for no label.
        norm_eps: epsilon of the norm before the feed-forward.
    """

    table: ClassVar[Table] = TABLE

    num_attention_heads: int = 16
    attention_head_dim: int = 72
    in_channels: int = 4
    out_channels: int | None = None
    num_layers: int = 28
    attention_bias: bool = True
    sample_size: int = 32
    patch_size: int = 2
    num_embeds_ada_norm: int = 1000
    norm_eps: float = 1e-5

    @property
    def predicted_channels(self) -> int:
        """Channels of the output, those of a learned variance included."""
        return self.in_channels if self.out_channels is None else self.out_channels

    def check(self) -> None:
        if self.predicted_channels not in (self.in_channels, 2 * self.in_channels):
            raise ValueError(
                f"{OWNER} config: out_channels={self.out_channels} must be in_channels={self.in_channels}, or "
                "twice as many with a learned variance"
            )
        if self.dim % 4:
            raise ValueError(f"{OWNER} config: {self.dim} channels (heads x head_dim) must be a multiple of 4")
        if self.sample_size % self.patch_size:
            raise ValueError(
                f"{OWNER} config: sample_size={self.sample_size} must be a multiple of patch_size={self.patch_size}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of a config.json that `from_dict` reads as this architecture."""
        fixed = {"activation_fn": "gelu-approximate", "norm_elementwise_affine": False, "norm_type": "ada_norm_zero"}
        return {**asdict(self), **fixed, "_class_name": OWNER}
