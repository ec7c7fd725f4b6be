"""config.json of published U-Nets, transformers, autoencoders and ControlNets."""

from typing import Any

Json = dict[str, Any]

# U-Nets: what Diffusers 0.6 wrote, and what later versions added.
CROSS, _CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
UNET_06: Json = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": [CROSS, CROSS, CROSS, "DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", _CROSS_UP, _CROSS_UP, _CROSS_UP],
}
SINCE_10: Json = {
    "dual_cross_attention": False,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "use_linear_projection": False,
}
SINCE_12: Json = {
    "class_embed_type": None,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "resnet_time_scale_shift": "default",
    "upcast_attention": False,
}
SINCE_19: Json = {
    "addition_embed_type": None,
    "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "mid_block_only_cross_attention": None,
    "num_attention_heads": None,
    "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "transformer_layers_per_block": 1,
}
SINCE_24: Json = {"attention_type": "default", "dropout": 0.0, "reverse_transformer_layers_per_block": None}
UNET_25: Json = {
    **UNET_06,
    **SINCE_10,
    **SINCE_12,
    **SINCE_19,
    **SINCE_24,
    "_diffusers_version": "0.25.0.dev0",
}
UNET_21_BASE: Json = {
    **UNET_06,
    **SINCE_10,
    "_diffusers_version": "0.10.0.dev0",
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
UNET_XL: Json = {
    **UNET_06,
    **SINCE_10,
    **SINCE_12,
    **SINCE_19,
    "_diffusers_version": "0.19.0.dev0",
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", CROSS, CROSS],
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": [_CROSS_UP, _CROSS_UP, "UpBlock2D"],
    "upcast_attention": None,
    "use_linear_projection": True,
}
UNET_REFINER: Json = {
    **UNET_XL,
    "attention_head_dim": [6, 12, 24, 24],
    "block_out_channels": [384, 768, 1536, 1536],
    "cross_attention_dim": 1280,
    "down_block_types": ["DownBlock2D", CROSS, CROSS, "DownBlock2D"],
    "projection_class_embeddings_input_dim": 2560,
    "transformer_layers_per_block": 4,
    "up_block_types": ["UpBlock2D", _CROSS_UP, _CROSS_UP, "UpBlock2D"],
}
EMA: Json = {
    "decay": 0.9999,
    "inv_gamma": 1.0,
    "min_decay": 0.0,
    "optimization_step": 37000,
    "power": 0.6666666666666666,
    "update_after_step": 0,
    "use_ema_warmup": False,
}

# Autoencoders.
VAE: Json = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
VAE_14: Json = {key: value for key, value in VAE.items() if key != "norm_num_groups"} | {"scaling_factor": 0.18215}
VAE_XL: Json = {
    **VAE,
    "_diffusers_version": "0.20.0.dev0",
    "_name_or_path": "../sdxl-vae/",
    "force_upcast": True,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
}
VAE_FLUX: Json = {
    **VAE_XL,
    "_diffusers_version": "0.30.0.dev0",
    "_name_or_path": "../checkpoints/flux-dev",
    "latent_channels": 16,
    "latents_mean": None,
    "latents_std": None,
    "mid_block_add_attention": True,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_post_quant_conv": False,
    "use_quant_conv": False,
}

# Flux.1 transformers.
FLUX: Json = {
    "_class_name": "FluxTransformer2DModel",
    "_diffusers_version": "0.30.0.dev0",
    "attention_head_dim": 128,
    "guidance_embeds": True,
    "in_channels": 64,
    "joint_attention_dim": 4096,
    "num_attention_heads": 24,
    "num_layers": 19,
    "num_single_layers": 38,
    "patch_size": 1,
    "pooled_projection_dim": 768,
}
# ControlNets: those of SD 1.5, and those of XL.
CONTROL: Json = {
    **{key: value for key, value in UNET_06.items() if key not in ("center_input_sample", "out_channels")},
    "_class_name": "ControlNetModel",
    "_diffusers_version": "0.16.0.dev0",
    "_name_or_path": "/home/someone/controlnet_v1_1/control_v11p_sd15_canny",
    "class_embed_type": None,
    "conditioning_embedding_out_channels": [16, 32, 96, 256],
    "controlnet_conditioning_channel_order": "rgb",
    "num_class_embeds": None,
    "only_cross_attention": False,
    "projection_class_embeddings_input_dim": None,
    "resnet_time_scale_shift": "default",
    "upcast_attention": False,
    "use_linear_projection": False,
}
del CONTROL["sample_size"], CONTROL["up_block_types"]
CONTROL_19: Json = {
    **CONTROL,
    "addition_embed_type": None,
    "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": None,
    "conditioning_channels": 3,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "global_pool_conditions": False,
    "num_attention_heads": None,
    "transformer_layers_per_block": 1,
}
CONTROLNETS: dict[str, Json] = {
    "control-sd15": CONTROL,
    "control-sd15-tile": {**CONTROL, "_diffusers_version": "0.17.0.dev0", "global_pool_conditions": False},
    "control-depth-anything": {**CONTROL_19, "mid_block_type": "UNetMidBlock2DCrossAttn"},
    "control-sdxl": {
        **CONTROL_19,
        **{
            key: UNET_XL[key]
            for key in (
                "addition_embed_type",
                "addition_time_embed_dim",
                "attention_head_dim",
                "block_out_channels",
                "cross_attention_dim",
                "down_block_types",
                "projection_class_embeddings_input_dim",
                "transformer_layers_per_block",
                "upcast_attention",
                "use_linear_projection",
            )
        },
        "_diffusers_version": "0.20.0.dev0",
        "_name_or_path": "valhalla/depth-2",
    },
}
