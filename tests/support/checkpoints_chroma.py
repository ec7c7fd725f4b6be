"""A tiny random Chroma checkpoint in the Hub's pipeline layout, written by Diffusers and transformers."""

import json
from pathlib import Path

import torch
from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

from support.checkpoints import small_vae
from support.small_t5 import small_t5

PUBLISHED = {  # the fields of the published config.json
    "_class_name": "ChromaTransformer2DModel",
    "_diffusers_version": "0.34.0.dev0",
    "approximator_hidden_dim": 5120,
    "approximator_in_factor": 16,
    "approximator_layers": 5,
    "attention_head_dim": 128,
    "axes_dims_rope": [16, 56, 56],
    "in_channels": 64,
    "joint_attention_dim": 4096,
    "num_attention_heads": 24,
    "num_layers": 19,
    "num_single_layers": 38,
    "out_channels": None,
    "patch_size": 1,
}
SMALL = {
    "approximator_hidden_dim": 32,
    "approximator_layers": 2,
    "attention_head_dim": 16,
    "axes_dims_rope": [4, 6, 6],
    "joint_attention_dim": 48,
    "num_attention_heads": 2,
    "num_layers": 1,
    "num_single_layers": 2,
}


def chroma(folder: Path) -> Path:
    """Write a checkpoint; returns it."""
    torch.manual_seed(9)
    t5, tokenizer = small_t5()
    fields = {name: value for name, value in {**PUBLISHED, **SMALL}.items() if not name.startswith("_")}
    fields.pop("approximator_in_factor")  # the published file has it, the class does not
    ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=small_vae(
            latent_channels=16,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            sample_size=256,
        ),
        text_encoder=t5,
        tokenizer=tokenizer,
        transformer=ChromaTransformer2DModel(**fields),
    ).save_pretrained(folder)
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "approximator_in_factor": 16}))
    return folder
