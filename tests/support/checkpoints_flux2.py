"""A tiny random FLUX.2 klein checkpoint in the Hub's pipeline layout, written by Diffusers and transformers."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from support.chat_tokenizer import chat_tokenizer, mistral_tokenizer

PUBLISHED = {  # the fields of the published config.json of klein 4B
    "_class_name": "Flux2Transformer2DModel",
    "_diffusers_version": "0.37.0.dev0",
    "attention_head_dim": 128,
    "axes_dims_rope": [32, 32, 32, 32],
    "eps": 1e-06,
    "guidance_embeds": False,
    "in_channels": 128,
    "joint_attention_dim": 7680,
    "mlp_ratio": 3.0,
    "num_attention_heads": 24,
    "num_layers": 5,
    "num_single_layers": 20,
    "out_channels": None,
    "patch_size": 1,
    "rope_theta": 2000,
    "timestep_guidance_channels": 256,
}
PUBLISHED_VAE = {
    "_class_name": "AutoencoderKLFlux2",
    "_diffusers_version": "0.37.0.dev0",
    "act_fn": "silu",
    "batch_norm_eps": 0.0001,
    "batch_norm_momentum": 0.1,
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "force_upcast": True,
    "in_channels": 3,
    "latent_channels": 32,
    "layers_per_block": 2,
    "mid_block_add_attention": True,
    "norm_num_groups": 32,
    "out_channels": 3,
    "patch_size": [2, 2],
    "sample_size": 1024,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
}
SMALL = {
    "attention_head_dim": 16,
    "axes_dims_rope": [4, 4, 4, 4],
    "in_channels": 32,
    "joint_attention_dim": 48,
    "num_attention_heads": 2,
    "num_layers": 1,
    "num_single_layers": 2,
    "timestep_guidance_channels": 32,
}
SCHEDULER = {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15}


def plain(fields: dict[str, object]) -> dict[str, object]:
    """The fields that a class takes."""
    return {name: value for name, value in fields.items() if not name.startswith("_")}


def flux2_vae() -> AutoencoderKLFlux2:
    """A small autoencoder whose statistics are not those of fresh weights."""
    sizes = {"block_out_channels": [16, 32], "latent_channels": 8, "layers_per_block": 1, "norm_num_groups": 8}
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    fields = {**PUBLISHED_VAE, **sizes, **kinds, "sample_size": 64}
    fields.pop("force_upcast")  # the class does not have the field, the published file does
    vae = AutoencoderKLFlux2(**plain(fields)).eval()
    vae.bn.running_mean.normal_(std=0.5)
    vae.bn.running_var.uniform_(0.5, 2.0)
    return vae


def flux2_klein(folder: Path, *, distilled: bool = False, layers: int = 28) -> Path:
    """Write a checkpoint in the style of klein, distilled or base; returns it."""
    torch.manual_seed(6)
    tokenizer = chat_tokenizer()
    text = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        rope_theta=1000000,
        tie_word_embeddings=False,
        max_position_embeddings=40960,
    )
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        vae=flux2_vae(),
        text_encoder=Qwen3ForCausalLM(text),
        tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(**plain({**PUBLISHED, **SMALL})),
        is_distilled=distilled,
    ).save_pretrained(folder)
    return folder


def flux2_dev(folder: Path) -> Flux2Pipeline:
    """Write a checkpoint in the style of dev; returns Diffusers' pipeline."""
    torch.manual_seed(7)
    tokenizer = mistral_tokenizer()
    text = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=31,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        rope_theta=1000000000.0,
        sliding_window=None,
        max_position_embeddings=131072,
    )
    vision = PixtralVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    pipeline = Flux2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        vae=flux2_vae(),
        text_encoder=Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=vision)).eval(),
        tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(**plain({**PUBLISHED, **SMALL, "guidance_embeds": True})).eval(),
    )
    pipeline.save_pretrained(folder)
    return pipeline
