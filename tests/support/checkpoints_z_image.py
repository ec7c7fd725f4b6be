"""A tiny random Z-Image checkpoint in the Hub's pipeline layout, written by Diffusers and transformers."""

import json
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model

from support.chat_tokenizer import chat_tokenizer
from support.checkpoints import small_vae

PUBLISHED = {  # the fields of the published config.json
    "_class_name": "ZImageTransformer2DModel",
    "_diffusers_version": "0.36.0.dev0",
    "all_f_patch_size": [1],
    "all_patch_size": [2],
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
    "cap_feat_dim": 2560,
    "dim": 3840,
    "in_channels": 16,
    "n_heads": 30,
    "n_kv_heads": 30,
    "n_layers": 30,
    "n_refiner_layers": 2,
    "norm_eps": 1e-05,
    "qk_norm": True,
    "rope_theta": 256.0,
    "t_scale": 1000.0,
}
SMALL = {
    "axes_dims": [8, 8, 8],
    "cap_feat_dim": 32,
    "dim": 48,
    "n_heads": 2,
    "n_kv_heads": 2,
    "n_layers": 3,
    "n_refiner_layers": 1,
}


def z_image_transformer() -> ZImageTransformer2DModel:
    """A small transformer whose weights all matter."""
    fields = {name: value for name, value in {**PUBLISHED, **SMALL}.items() if not name.startswith("_")}
    network = ZImageTransformer2DModel(**fields).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("pad_token") or "adaLN" in name:
                parameter.normal_(std=0.05)
    return network


def z_image(folder: Path, shift: float = 6.0) -> Path:
    """Write a checkpoint in the style of Z-Image (shift 6) or its Turbo (shift 3); returns it."""
    torch.manual_seed(5)
    tokenizer = chat_tokenizer()
    text = Qwen3Config(
        vocab_size=len(tokenizer) + 3,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        rope_theta=1000000,
        tie_word_embeddings=True,
        max_position_embeddings=40960,
    )
    ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift, use_dynamic_shifting=False),
        vae=small_vae(
            latent_channels=16,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            sample_size=256,
            force_upcast=True,
        ),
        text_encoder=Qwen3Model(text),
        tokenizer=tokenizer,
        transformer=z_image_transformer(),
    ).save_pretrained(folder)
    _as_published(folder / "text_encoder" / "config.json")
    return folder


def _as_published(config: Path) -> None:
    """Gives a text encoder's config the spelling of the published file."""
    fields = json.loads(config.read_text())
    fields.pop("rope_parameters")
    published = {
        "architectures": ["Qwen3ForCausalLM"],
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0",
        "use_sliding_window": False,
    }
    config.write_text(json.dumps({**fields, **published}))
