"""Fields of the config.json of the Hub's UNet2DModel."""

from ..config import (
    COUNT,
    EMA_LEFTOVERS,
    FLAG,
    NAMES,
    NONE,
    NUMBER,
    POSITIVE,
    QUANTIZED,
    SWITCH,
    TRAINING_LEFTOVERS,
    WIDTH,
    WIDTHS,
    Table,
)

OWNER = "UNet2DModel"
TABLE_2D = Table(
    OWNER,
    names=(OWNER,),
    kinds={
        "add_attention": SWITCH,
        "attention_head_dim": WIDTH | NONE,
        "block_out_channels": WIDTHS,
        "down_block_types": NAMES,
        "downsample_padding": NUMBER,
        "flip_sin_to_cos": FLAG,
        "freq_shift": NUMBER,
        "in_channels": WIDTH,
        "layers_per_block": COUNT,
        "norm_eps": POSITIVE,
        "norm_num_groups": WIDTH,
        "num_class_embeds": WIDTH | NONE,
        "out_channels": WIDTH,
        "sample_size": WIDTH | WIDTHS | NONE,
        "time_embedding_dim": WIDTH | NONE,
        "up_block_types": NAMES,
    },
    only={
        "act_fn": ("silu", "swish"),
        "attn_norm_num_groups": (None,),
        "center_input_sample": (False, None),
        "class_embed_type": (None,),
        "downsample_type": ("conv",),
        "mid_block_scale_factor": (1,),
        "mid_block_type": ("UNetMidBlock2D",),
        "resnet_time_scale_shift": ("default",),
        "time_embedding_type": ("positional",),
        "upsample_type": ("conv",),
    },
    ignored={
        **EMA_LEFTOVERS,
        **TRAINING_LEFTOVERS,
        "dropout": "dropout is off outside training",
        "num_train_timesteps": "used only by a learned time embedding, which is not supported",
    },
    needs={
        "class_embed_type": "class labels are supported by number (num_class_embeds), without class_embed_type",
        "quantization_config": QUANTIZED,
        "time_embedding_type": "networks of score-based models (fourier) divide their output by sigma",
    },
)
