"""A tiny random Stable Diffusion 3 checkpoint in the Hub's pipeline layout, written by Diffusers and transformers."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from support.checkpoints import clip_tokenizer, small_vae
from support.small_t5 import small_t5

_COMMON = {
    "_class_name": "SD3Transformer2DModel",
    "attention_head_dim": 64,
    "in_channels": 16,
    "joint_attention_dim": 4096,
    "out_channels": 16,
    "patch_size": 2,
    "pooled_projection_dim": 2048,
    "sample_size": 128,
}
PUBLISHED: dict[str, dict[str, Any]] = {  # the fields of the published config.json of each model
    "3 medium": {
        **_COMMON,
        "_diffusers_version": "0.29.0.dev0",
        "caption_projection_dim": 1536,
        "num_attention_heads": 24,
        "num_layers": 24,
        "pos_embed_max_size": 192,
    },
    "3.5 medium": {
        **_COMMON,
        "_diffusers_version": "0.31.0.dev0",
        "caption_projection_dim": 1536,
        "dual_attention_layers": list(range(13)),
        "num_attention_heads": 24,
        "num_layers": 24,
        "pos_embed_max_size": 384,
        "qk_norm": "rms_norm",
    },
    "3.5 large": {
        **_COMMON,
        "_diffusers_version": "0.31.0.dev0",
        "caption_projection_dim": 2432,
        "dual_attention_layers": [],
        "num_attention_heads": 38,
        "num_layers": 38,
        "pos_embed_max_size": 192,
        "qk_norm": "rms_norm",
    },
}
SMALL = {
    "attention_head_dim": 16,
    "caption_projection_dim": 32,
    "joint_attention_dim": 48,
    "num_attention_heads": 2,
    "num_layers": 3,
    "pooled_projection_dim": 44,
    "pos_embed_max_size": 16,
    "sample_size": 12,
}


def _transformer(style: str) -> SD3Transformer2DModel:
    fields = {name: value for name, value in {**PUBLISHED[style], **SMALL}.items() if not name.startswith("_")}
    if fields.get("dual_attention_layers"):
        fields["dual_attention_layers"] = [0, 1]
    network = SD3Transformer2DModel(**fields).eval()
    # What the file holds counts, not what its positions would be if they were computed.
    network.pos_embed.pos_embed.add_(0.1 * torch.randn_like(network.pos_embed.pos_embed))
    return network


def sd3(folder: Path, style: str, *, t5: bool = True) -> Path:
    """Write a checkpoint in the style of one of `PUBLISHED`, with or without T5; returns it."""
    torch.manual_seed(8)
    clips = []
    for index, (pad, width, projection) in enumerate((("<|endoftext|>", 16, 20), ("!", 24, 24))):
        tokenizer = clip_tokenizer(folder.parent / f"{folder.name}-tokenizer-{index}", pad)
        config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=32,
            projection_dim=projection,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=24,
            hidden_act="quick_gelu" if index == 0 else "gelu",
            bos_token_id=0,
            eos_token_id=2,  # the published files' legacy mark for "the highest id is the end token"
            pad_token_id=1,
        )
        clips.append((CLIPTextModelWithProjection(config), tokenizer))
    third, tokenizer_3 = small_t5() if t5 else (None, None)
    StableDiffusion3Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=small_vae(
            latent_channels=16,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            force_upcast=True,
        ),
        text_encoder=clips[0][0],
        tokenizer=clips[0][1],
        text_encoder_2=clips[1][0],
        tokenizer_2=clips[1][1],
        text_encoder_3=third,
        tokenizer_3=tokenizer_3,
        transformer=_transformer(style),
    ).save_pretrained(folder)
    published = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(published))
    return folder
