"""Tiny random Wan checkpoints in the Hub's pipeline layout, written by Diffusers and transformers."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from support.small_t5 import letters, small_config

TRANSFORMER = {  # the fields of the published config.json of T2V 1.3B
    "_class_name": "WanTransformer3DModel",
    "_diffusers_version": "0.33.0.dev0",
    "added_kv_proj_dim": None,
    "attention_head_dim": 128,
    "cross_attn_norm": True,
    "eps": 1e-06,
    "ffn_dim": 8960,
    "freq_dim": 256,
    "image_dim": None,
    "in_channels": 16,
    "num_attention_heads": 12,
    "num_layers": 30,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 1024,
    "text_dim": 4096,
}
TRANSFORMER_14B = {**TRANSFORMER, "ffn_dim": 13824, "num_attention_heads": 40, "num_layers": 40}
TRANSFORMER_I2V = {**TRANSFORMER_14B, "added_kv_proj_dim": 5120, "image_dim": 1280, "in_channels": 36}
SMALL = {
    "attention_head_dim": 24,
    "ffn_dim": 64,
    "freq_dim": 32,
    "num_attention_heads": 2,
    "num_layers": 3,
    "text_dim": 48,
}
VAE = {  # of the published config.json, without the class
    "base_dim": 4,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 1,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
    "dropout": 0.0,
    "latents_mean": [
        *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
        *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
    ],
    "latents_std": [
        *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
        *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.916),
    ],
}
TRANSFORMER_TI2V = {
    **TRANSFORMER, "_diffusers_version": "0.35.0.dev0", "ffn_dim": 14336, "in_channels": 48, "num_attention_heads": 24,
    "out_channels": 48,
}  # fmt: skip
VAE_TI2V = {  # the fields of the published config.json
    "_class_name": "AutoencoderKLWan",
    "_diffusers_version": "0.35.0.dev0",
    "attn_scales": [],
    "base_dim": 160,
    "clip_output": False,
    "decoder_base_dim": 256,
    "dim_mult": [1, 2, 4, 4],
    "dropout": 0.0,
    "in_channels": 12,
    "is_residual": True,
    "latents_mean": [
        *(-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891),
        *(0.157, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502),
        *(-0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123, -0.0313, -0.1649, 0.0117, 0.0723),
        *(-0.2839, -0.2083, -0.052, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667),
    ],
    "latents_std": [
        *(0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901),
        *(0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659),
        *(0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944),
        *(0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744),
    ],
    "num_res_blocks": 2,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "scale_factor_temporal": 4,
    "temperal_downsample": [False, True, True],
    "z_dim": 48,
}
SCHEDULER = {
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "disable_corrector": [],
    "dynamic_thresholding_ratio": 0.995,
    "final_sigmas_type": "zero",
    "flow_shift": 3.0,
    "lower_order_final": True,
    "num_train_timesteps": 1000,
    "predict_x0": True,
    "prediction_type": "flow_prediction",
    "rescale_betas_zero_snr": False,
    "sample_max_value": 1.0,
    "solver_order": 2,
    "solver_p": None,
    "solver_type": "bh2",
    "steps_offset": 0,
    "thresholding": False,
    "timestep_spacing": "linspace",
    "trained_betas": None,
    "use_beta_sigmas": False,
    "use_exponential_sigmas": False,
    "use_flow_sigmas": True,
    "use_karras_sigmas": False,
}


def small_umt5() -> tuple[UMT5EncoderModel, T5TokenizerFast]:
    """An encoder of width 48, and a tokenizer of which each character is a token; ids as published."""
    pieces = letters("<pad>", "</s>", "<s>", "<unk>")
    fields = {
        "decoder_start_token_id": 0, "is_encoder_decoder": True, "output_past": True, "scalable_attention": True,
        "tie_word_embeddings": False,
    }  # fmt: skip
    return UMT5EncoderModel(small_config(UMT5Config, pieces, **fields)), T5TokenizerFast(vocab=pieces, extra_ids=0)


def small_transformer(**fields: Any) -> WanTransformer3DModel:
    """A transformer of three layers whose weights are far from their initial values; `fields` replace others."""
    chosen = {name: value for name, value in {**TRANSFORMER, **SMALL, **fields}.items() if not name.startswith("_")}
    network = WanTransformer3DModel(**chosen)
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1 or "table" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return network


def wan(folder: Path, *, stages: bool = False, **fields: Any) -> Path:
    """Write a checkpoint of Wan 2.1 T2V; returns its folder.

    Args:
        folder: Where it is written.
        stages: Whether it is of Wan 2.2 A14B, with two transformers.
        fields: Fields of the scheduler's config.
    """
    torch.manual_seed(11)
    text, tokenizer = small_umt5()
    second = {"transformer_2": small_transformer(), "boundary_ratio": 0.875} if stages else {}
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text,
        vae=AutoencoderKLWan(**VAE),
        scheduler=UniPCMultistepScheduler(**{**SCHEDULER, **fields}),
        transformer=small_transformer(),
        **second,
    ).save_pretrained(folder)
    return folder


def small_vae_ti2v() -> AutoencoderKLWan:
    """An autoencoder of TI2V with few channels, whose weights are far from their initial values."""
    fields = {name: value for name, value in VAE_TI2V.items() if name[0] != "_" and name != "clip_output"}
    vae = AutoencoderKLWan(**{**fields, "base_dim": 4, "decoder_base_dim": 8, "num_res_blocks": 1})
    for parameter in vae.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    return vae.eval().requires_grad_(False)


def wan_text_image(folder: Path, pipeline: type[Any] = WanPipeline) -> Path:
    """Write a checkpoint of Wan 2.2 TI2V; returns its folder.

    Args:
        folder: Where it is written.
        pipeline: Class of the pipeline that writes it; `WanPipeline` is the published one.
    """
    torch.manual_seed(13)
    text, tokenizer = small_umt5()
    pipeline(
        tokenizer=tokenizer,
        text_encoder=text,
        vae=small_vae_ti2v(),
        scheduler=UniPCMultistepScheduler(**{**SCHEDULER, "flow_shift": 5.0}),
        transformer=small_transformer(in_channels=48, out_channels=48),
        expand_timesteps=True,
    ).save_pretrained(folder)
    return folder


def wan_image(folder: Path) -> Path:
    """Write a checkpoint of Wan 2.1 I2V; returns its folder."""
    torch.manual_seed(12)
    text, tokenizer = small_umt5()
    vision = CLIPVisionConfig(
        hidden_size=20, intermediate_size=40, projection_dim=16, num_hidden_layers=3, num_attention_heads=2,
        image_size=28, patch_size=14, hidden_act="gelu",
    )  # fmt: skip
    sizes = {"height": 28, "width": 28}
    WanImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=text,
        vae=AutoencoderKLWan(**VAE),
        scheduler=UniPCMultistepScheduler(**{**SCHEDULER, "flow_shift": 5.0}),
        image_processor=CLIPImageProcessor(do_center_crop=False, size=sizes, crop_size=sizes),
        image_encoder=CLIPVisionModelWithProjection(vision),
        transformer=small_transformer(in_channels=36, image_dim=20, added_kv_proj_dim=48),
    ).save_pretrained(folder)
    return folder
