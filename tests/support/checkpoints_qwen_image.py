"""Tiny random Qwen-Image checkpoints in the Hub's pipeline layout, written by Diffusers and transformers."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from support.chat_tokenizer import chat_tokenizer

PUBLISHED = {  # the fields of the published config.json
    "_class_name": "QwenImageTransformer2DModel",
    "_diffusers_version": "0.34.0.dev0",
    "attention_head_dim": 128,
    "axes_dims_rope": [16, 56, 56],
    "guidance_embeds": False,
    "in_channels": 64,
    "joint_attention_dim": 3584,
    "num_attention_heads": 24,
    "num_layers": 60,
    "out_channels": 16,
    "patch_size": 2,
    "pooled_projection_dim": 768,
}
PUBLISHED_SCHEDULER = {
    "base_image_seq_len": 256,
    "base_shift": 0.5,
    "invert_sigmas": False,
    "max_image_seq_len": 8192,
    "max_shift": 0.9,
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "shift_terminal": 0.02,
    "stochastic_sampling": False,
    "time_shift_type": "exponential",
    "use_beta_sigmas": False,
    "use_dynamic_shifting": True,
    "use_exponential_sigmas": False,
    "use_karras_sigmas": False,
}
PUBLISHED_PROCESSOR = {  # preprocessor_config.json of Qwen-Image-Edit
    "crop_size": None,
    "data_format": "channels_first",
    "default_to_square": True,
    "device": None,
    "disable_grouping": None,
    "do_center_crop": None,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "input_data_format": None,
    "max_pixels": 12845056,
    "merge_size": 2,
    "min_pixels": 3136,
    "patch_size": 14,
    "processor_class": "Qwen2VLProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "return_tensors": None,
    "size": {"longest_edge": 12845056, "shortest_edge": 3136},
    "temporal_patch_size": 2,
}
SMALL = {
    "attention_head_dim": 16,
    "axes_dims_rope": [4, 6, 6],
    "joint_attention_dim": 32,
    "num_attention_heads": 2,
    "num_layers": 3,
}
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128000,
    "rms_norm_eps": 1e-06,
}
VISION = {
    "depth": 2,
    "fullatt_block_indexes": [1],
    "hidden_act": "silu",
    "hidden_size": 16,
    "in_channels": 3,
    "intermediate_size": 24,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "tokens_per_second": 2,
    "window_size": 112,
}


def qwen_transformer(**fields: Any) -> QwenImageTransformer2DModel:
    """A small transformer whose weights all matter."""
    made = {name: value for name, value in {**PUBLISHED, **SMALL, **fields}.items() if not name.startswith("_")}
    made.pop("pooled_projection_dim")  # Diffusers 0.42 warns of it
    network = QwenImageTransformer2DModel(**made).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return network


def qwen_vae() -> AutoencoderKLQwenImage:
    """A small autoencoder with the published statistics."""
    return AutoencoderKLQwenImage(base_dim=4, num_res_blocks=1).eval()


def qwen_language(vocabulary: int, **tokens: int) -> Qwen2_5_VLForConditionalGeneration:
    """A small language model that reads pictures, whose attention depends on positions."""
    rope = {"mrope_section": [1, 1, 2], "rope_theta": 1000000.0, "rope_type": "default"}
    text = {**LANGUAGE, "vocab_size": vocabulary, "rope_parameters": rope}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=VISION, tie_word_embeddings=False, **tokens)
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight")):
                parameter.normal_(std=0.3)
    return model


def qwen_image(folder: Path) -> Path:
    """Write a checkpoint in the style of Qwen-Image; returns it."""
    torch.manual_seed(5)
    tokenizer = chat_tokenizer()
    QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**PUBLISHED_SCHEDULER),
        vae=qwen_vae(),
        text_encoder=qwen_language(len(tokenizer) + 3),
        tokenizer=tokenizer,
        transformer=qwen_transformer(),
    ).save_pretrained(folder)
    as_published(folder)
    return folder


def qwen_image_edit(folder: Path, plus: bool = False) -> Path:
    """Write a checkpoint in the style of Qwen-Image-Edit, or of Edit-2511 whose transformer has `zero_cond_t`."""
    torch.manual_seed(6)
    tokenizer = chat_tokenizer(("<|vision_start|>", "<|image_pad|>", "<|vision_end|>"))
    language = qwen_language(len(tokenizer) + 3, image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"))
    parts = {"transformer": qwen_transformer(zero_cond_t=plus), "vae": qwen_vae(), "text_encoder": language}
    parts |= {"tokenizer": tokenizer, "scheduler": FlowMatchEulerDiscreteScheduler(**PUBLISHED_SCHEDULER)}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    (folder / "processor").mkdir()
    (folder / "processor" / "preprocessor_config.json").write_text(json.dumps(PUBLISHED_PROCESSOR))
    named = {name: [type(part).__module__.split(".")[0], type(part).__name__] for name, part in parts.items()}
    named |= {"tokenizer": ["transformers", "Qwen2Tokenizer"], "processor": ["transformers", "Qwen2VLProcessor"]}
    index = {"_class_name": f"QwenImageEdit{'Plus' if plus else ''}Pipeline", "_diffusers_version": "0.35.0.dev0"}
    (folder / "model_index.json").write_text(json.dumps({**index, **named}))
    as_published(folder)
    return folder


def as_published(folder: Path) -> None:
    """Gives configs the spelling of the published files: older fields of the language model, dead ones elsewhere."""
    encoder = folder / "text_encoder" / "config.json"
    fields = json.loads(encoder.read_text())
    scaling = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    old = {"rope_scaling": scaling, "rope_theta": 1000000.0, "use_sliding_window": False, "sliding_window": None}
    text = {name: value for name, value in fields["text_config"].items() if name != "rope_parameters"}
    fields["text_config"] = {**text, **old, "image_token_id": None, "vision_token_id": 151654}
    flat = {**LANGUAGE, **old, "vocab_size": text["vocab_size"], "sliding_window": 32768, "hidden_act": "silu"}
    encoder.write_text(json.dumps({**fields, **flat, "torch_dtype": "bfloat16", "transformers_version": "4.53.1"}))
    transformer = folder / "transformer" / "config.json"
    made = json.loads(transformer.read_text())
    own = {name: made[name] for name in PUBLISHED if name in made}
    kept = {name: value for name, value in made.items() if name == "zero_cond_t" and value}
    transformer.write_text(json.dumps({**own, **kept, "pooled_projection_dim": 768}))
