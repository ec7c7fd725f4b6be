"""Architecture of a tiny autoencoder, read from its config.json."""

from dataclasses import dataclass
from typing import ClassVar, Final

from ..config import COUNT, COUNTS, EMA_LEFTOVERS, NUMBER, POSITIVE, QUANTIZED, WIDTH, WIDTHS, Table
from ..json_config import JsonConfig

_STORED: Final = "the range in which latents are stored as pictures"

TABLE: Final = Table(
    "AutoencoderTiny",
    names=("AutoencoderTiny",),
    kinds={
        **dict.fromkeys(("in_channels", "out_channels", "latent_channels"), WIDTH),
        **dict.fromkeys(("encoder_block_out_channels", "decoder_block_out_channels"), WIDTHS),
        **dict.fromkeys(("num_encoder_blocks", "num_decoder_blocks"), COUNTS),
        "upsampling_scaling_factor": COUNT,
        "scaling_factor": POSITIVE,
        "shift_factor": NUMBER,
    },
    only={"act_fn": ("relu",), "upsample_fn": ("nearest",)},
    ignored={
        **EMA_LEFTOVERS,
        "latent_magnitude": _STORED,
        "latent_shift": _STORED,
        "force_upcast": "the weights are small enough for float16",
        "block_out_channels": "a copy of decoder_block_out_channels",
    },
    needs={"quantization_config": QUANTIZED},
)


@dataclass(frozen=True)
class TinyAutoencoderConfig(JsonConfig):
    """Architecture of a tiny autoencoder; field names are those of its config.json.

    Attributes:
        in_channels: channels of an input image.
        out_channels: channels of an output image.
        latent_channels: channels of the latents.
        encoder_block_out_channels: channels of each level of the encoder, all equal.
        decoder_block_out_channels: channels of each level of the decoder, all equal.
        num_encoder_blocks: residual blocks of each level of the encoder, outermost first.
        num_decoder_blocks: residual blocks of each level of the decoder, innermost first.
        upsampling_scaling_factor: pixels along a side from one level of the decoder to the next.
        scaling_factor: factor between the latents that it decodes and those of the diffusion network.
        shift_factor: shift applied before the factor.
    """

    table: ClassVar[Table] = TABLE

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    encoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    decoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    num_encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    num_decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    upsampling_scaling_factor: int = 2
    scaling_factor: float = 1.0
    shift_factor: float = 0.0

    @property
    def downscale(self) -> int:
        """Pixels per latent position along one side."""
        return self.upsampling_scaling_factor ** (len(self.num_decoder_blocks) - 1)

    def check(self) -> None:
        for side in ("encoder", "decoder"):
            name, blocks = f"{side}_block_out_channels", f"num_{side}_blocks"
            widths, counts = getattr(self, name), getattr(self, blocks)
            if len(widths) != len(counts) or len(set(widths)) != 1:
                raise ValueError(
                    f"{TABLE.owner} config: {name}={list(widths)} must have equal entries, one for each of "
                    f"{blocks}={list(counts)}"
                )
