"""Tiny random checkpoints in the Hub's layouts, written by Diffusers and transformers."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    MusicLDMPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    ClapConfig,
    ClapModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    RobertaTokenizerFast,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
)

_XL_PADS = {"end": "<|endoftext|>", "mark": "!"}
_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def clip_tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    """A CLIP tokenizer without merges: each character is a token."""
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 24,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": pad,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return CLIPTokenizer.from_pretrained(folder)


def small_clip(tokenizer: CLIPTokenizer, **fields: Any) -> CLIPTextConfig:
    """The config of a text encoder of two layers; `fields` are those in which models differ."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=24,
        bos_token_id=len(tokenizer) - 2,
        pad_token_id=0,
        **fields,
    )


def small_vae(**fields: Any) -> AutoencoderKL:
    """An autoencoder of two levels; `fields` are those in which models differ."""
    return AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        **fields,
    )


def stable_diffusion(folder: Path, style: str, dtype: torch.dtype = torch.float32, variant: str | None = None) -> Path:
    """Write a checkpoint in the style of "sd15" (epsilon) or "sd21" (v_prediction, linear projections)."""
    torch.manual_seed({"sd15": 1, "sd21": 2}[style])
    tokenizer = clip_tokenizer(folder.parent / f"{folder.name}-tokenizer", "<|endoftext|>" if style == "sd15" else "!")
    activation = "quick_gelu" if style == "sd15" else "gelu"
    config = small_clip(tokenizer, eos_token_id=len(tokenizer) - 1, hidden_act=activation)
    heads = {"sd15": 4, "sd21": (2, 4, 8)}[style]
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block={"sd15": 2, "sd21": 1}[style],
        cross_attention_dim=32,
        attention_head_dim=heads,
        use_linear_projection=style == "sd21",
        norm_num_groups=8,
    )
    vae = small_vae(sample_size=32)
    scheduler = DPMSolverMultistepScheduler(
        **_BETAS,
        prediction_type="epsilon" if style == "sd15" else "v_prediction",
        num_train_timesteps=1000,
        steps_offset=1,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(config),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=dtype).save_pretrained(folder, variant=variant)
    return folder


def stable_diffusion_xl(folder: Path, *, refiner: bool = False, force_zeros: bool = True) -> Path:
    """Write an XL checkpoint: the base model with two text encoders, or a refiner with the second alone."""
    torch.manual_seed(4 if refiner else 3)
    tokenizers = [
        clip_tokenizer(folder.parent / f"{folder.name}-tokenizer-{pad}", word) for pad, word in _XL_PADS.items()
    ]
    text = {
        "vocab_size": len(tokenizers[0]),
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 24,
        "bos_token_id": 0,
        "eos_token_id": 2,  # the published files' legacy mark for "the highest id is the end token"
        "pad_token_id": 1,
    }
    first = CLIPTextModel(CLIPTextConfig(**text, hidden_size=16, hidden_act="quick_gelu"))
    second = CLIPTextModelWithProjection(CLIPTextConfig(**text, hidden_size=32, projection_dim=24, hidden_act="gelu"))
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=32 if refiner else 48,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 8 * (5 if refiner else 6),
    )
    vae = small_vae(sample_size=32, scaling_factor=0.13025)
    parts = {
        "vae": vae,
        "unet": unet,
        "scheduler": EulerDiscreteScheduler(**_BETAS, timestep_spacing="leading", steps_offset=1),
        "text_encoder": None if refiner else first,
        "tokenizer": None if refiner else tokenizers[0],
        "text_encoder_2": second,
        "tokenizer_2": tokenizers[1],
        "force_zeros_for_empty_prompt": force_zeros,
        "add_watermarker": False,
    }
    if refiner:
        StableDiffusionXLImg2ImgPipeline(**parts, requires_aesthetics_score=True).save_pretrained(folder)
    else:
        StableDiffusionXLPipeline(**parts).save_pretrained(folder)
    return folder


def controlnet(folder: Path, base: Path, seed: int = 5, **changes: object) -> Path:
    """Write a ControlNet for the U-Net of the checkpoint `base`, whose residuals are large enough to matter."""
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    torch.manual_seed(seed)
    net = ControlNetModel.from_unet(unet, **{"conditioning_embedding_out_channels": (8, 16), **changes})
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith("controlnet_"):
                parameter.normal_(std=0.3 / parameter[0].numel() ** 0.5)
    net.save_pretrained(folder)
    return folder


def musicldm(folder: Path) -> Path:
    """Write a MusicLDM checkpoint with CLAP and a vocoder of 4 samples per frame at 1600 Hz."""
    torch.manual_seed(7)
    letters = [chr(code) for code in (*range(33, 127), 0x120)]
    vocabulary = {word: index for index, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters])}
    tokenizer = RobertaTokenizerFast(vocab=vocabulary, merges=[], model_max_length=24)
    text = {
        "vocab_size": len(vocabulary),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "max_position_embeddings": 40,
    }
    sound = {
        "spec_size": 64,
        "window_size": 4,
        "num_mel_bins": 64,
        "intermediate_size": 32,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "num_hidden_layers": 2,
        "hidden_size": 192,
        "patch_size": 2,
        "patch_stride": 2,
    }
    clap = ClapModel(ClapConfig(text_config=text, audio_config=sound, projection_dim=24))
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=(16, 32),
        attention_head_dim=4,
        norm_num_groups=8,
        class_embed_type="simple_projection",
        class_embeddings_concat=True,
        projection_class_embeddings_input_dim=24,
    )
    with torch.no_grad():
        unet.class_embedding.weight.mul_(10)  # so that the prompt matters
    vae = small_vae(in_channels=1, out_channels=1, scaling_factor=0.9)
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=8,
            sampling_rate=1600,
            upsample_initial_channel=16,
            upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4],
            resblock_kernel_sizes=[3, 7],
            resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
            normalize_before=False,
        )
    )
    scheduler = DDIMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    MusicLDMPipeline(
        vae=vae,
        text_encoder=clap,
        tokenizer=tokenizer,
        feature_extractor=None,
        unet=unet,
        scheduler=scheduler,
        vocoder=vocoder,
    ).save_pretrained(folder)
    return folder
