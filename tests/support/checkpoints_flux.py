"""A tiny random Flux.1 checkpoint in the Hub's pipeline layout, written by Diffusers and transformers."""

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel, T5Config, T5EncoderModel, T5TokenizerFast

from support.checkpoints import clip_tokenizer, small_clip, small_vae

FLUX = {
    "in_channels": 64,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
    "axes_dims_rope": (4, 6, 6),
}


def flux(folder: Path, style: str, **changes: object) -> Path:
    """Write a checkpoint in the style of Flux.1 "dev" (embedded guidance, dynamic shift) or "schnell"; returns it.

    `changes` are those of the transformer's config.
    """
    dev = style == "dev"
    torch.manual_seed(3 if dev else 4)
    tokenizer = clip_tokenizer(folder.parent / f"{folder.name}-tokenizer", "<|endoftext|>")
    clip = small_clip(tokenizer, eos_token_id=2)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(chr(code), -3.0) for code in range(33, 127)]
    tokenizer_2 = T5TokenizerFast(vocab=pieces, extra_ids=0)
    t5 = T5Config(
        vocab_size=len(pieces),
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )
    vae = small_vae(
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        sample_size=256,
    )
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev),
        vae=vae,
        text_encoder=CLIPTextModel(clip),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=tokenizer_2,
        transformer=FluxTransformer2DModel(**{**FLUX, **changes}, guidance_embeds=dev),
    )
    pipeline.save_pretrained(folder)
    return folder
