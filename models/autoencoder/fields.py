"""Fields of the config.json of the Hub's AutoencoderKL."""

from ..config import (
    COUNT,
    EMA_LEFTOVERS,
    FLAG,
    NONE,
    NUMBER,
    NUMBERS,
    POSITIVE,
    QUANTIZED,
    TRAINING_LEFTOVERS,
    WIDTH,
    WIDTHS,
    Table,
)

TABLE = Table(
    "AutoencoderKL",
    names=("AutoencoderKL",),
    kinds={
        **dict.fromkeys(("in_channels", "out_channels", "latent_channels", "norm_num_groups"), WIDTH),
        **dict.fromkeys(("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention", "force_upcast"), FLAG),
        **dict.fromkeys(("latents_mean", "latents_std"), NUMBERS | NONE),
        "block_out_channels": WIDTHS,
        "layers_per_block": COUNT,
        "scaling_factor": POSITIVE,
        "shift_factor": NUMBER | NONE,
        "sample_size": WIDTH | WIDTHS | NONE,
    },
    only={
        "act_fn": ("silu", "swish"),
        "down_block_types": ("DownEncoderBlock2D",),
        "up_block_types": ("UpDecoderBlock2D",),
    },
    ignored={**EMA_LEFTOVERS, **TRAINING_LEFTOVERS},
    needs={"quantization_config": QUANTIZED},
)
