"""Small folders of DDPM, DDIM and DiT pipelines with the JSON of published checkpoints, and Diffusers' own samples."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DModel
from safetensors.torch import save_file

Json = dict[str, Any]

_LEVELS = ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D")
DDPM_CIFAR: Json = {
    "_class_name": "UNet2DModel",
    "_diffusers_version": "0.0.4",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": list(_LEVELS),
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
"""google/ddpm-cifar10-32, which lies with its scheduler config beside model_index.json."""

DDPM_CELEBA: Json = {
    **DDPM_CIFAR,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
    "sample_size": 256,
}
"""google/ddpm-celebahq-256."""

DDPM_SCHEDULER: Json = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.1.1",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "variance_type": "fixed_large",
}

# As today's training scripts save it: newer fields, class labels, attention of several heads, symmetric padding.
BUTTERFLIES: Json = {
    **DDPM_CIFAR,
    "_diffusers_version": "0.29.0",
    "add_attention": True,
    "attention_head_dim": 8,
    "attn_norm_num_groups": None,
    "class_embed_type": None,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "dropout": 0.0,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "norm_eps": 1e-05,
    "num_class_embeds": 4,
    "num_train_timesteps": None,
    "resnet_time_scale_shift": "default",
    "upsample_type": "conv",
}

DIT: Json = {
    "_class_name": "Transformer2DModel",
    "_diffusers_version": "0.12.0.dev0",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": 72,
    "cross_attention_dim": None,
    "dropout": 0.0,
    "in_channels": 4,
    "norm_elementwise_affine": False,
    "norm_num_groups": 32,
    "norm_type": "ada_norm_zero",
    "num_attention_heads": 16,
    "num_embeds_ada_norm": 1000,
    "num_layers": 28,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "out_channels": 8,
    "patch_size": 2,
    "sample_size": 32,
    "upcast_attention": False,
    "use_linear_projection": False,
}
"""facebook/DiT-XL-2-256."""

DIT_SCHEDULER: Json = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.12.0.dev0",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "trained_betas": None,
}
_VAE: Json = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.4.2",
    "act_fn": "silu",
    "block_out_channels": [16, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "out_channels": 3,
    "sample_size": 256,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def write_json(path: Path, content: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))


def save(network: torch.nn.Module, folder: Path, *, old: bool = False) -> None:
    """Write a network's weights; `old` under the names of its attention before Diffusers 0.15."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        for new, former in _OLD_ATTENTION.items() if old and ".attentions." in name else ():
            name = name.replace(f".{new}.", f".{former}.")
        tensors[name] = tensor.contiguous()
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def unet(config: Json) -> Json:
    """A U-Net's config with few channels and a small picture; all other fields stay."""
    widths = [16 if width == 128 else 32 for width in config["block_out_channels"]]
    return {**config, "block_out_channels": widths, "norm_num_groups": 8, "sample_size": 32}


def write_unconditional(folder: Path, config: Json, kind: str = "DDPMPipeline", *, at_root: bool = False) -> Path:
    """Write the folder of a DDPM or DDIM pipeline; `at_root` in the layout of the first checkpoints."""
    torch.manual_seed(3)
    small = unet(config)
    index = {"_class_name": kind, "_diffusers_version": "0.1.1", "scheduler": ["diffusers", "DDPMScheduler"]}
    write_json(folder / "model_index.json", {**index, "unet": ["diffusers", "UNet2DModel"]})
    write_json(folder / ("" if at_root else "scheduler") / "scheduler_config.json", DDPM_SCHEDULER)
    place = folder / ("" if at_root else "unet")
    write_json(place / "config.json", small)
    save(UNet2DModel.from_config(small), place, old=at_root)
    return folder


def write_dit(folder: Path, **changes: Any) -> Path:
    """Write the folder of a DiT pipeline, with names of its ten labels."""
    torch.manual_seed(4)
    small = {**DIT, "attention_head_dim": 8, "num_attention_heads": 4, "num_layers": 4, "sample_size": 8}
    small = {**small, "num_embeds_ada_norm": 10, **changes}
    names = {str(label): f"animal {label}, beast {label}" for label in range(9)}
    parts = {"scheduler": "DDIMScheduler", "transformer": "Transformer2DModel", "vae": "AutoencoderKL"}
    index = {"_class_name": "DiTPipeline", "_diffusers_version": "0.12.0.dev0", "id2label": {**names, "9": "tench"}}
    write_json(folder / "model_index.json", {**index, **{name: ["diffusers", cls] for name, cls in parts.items()}})
    write_json(folder / "scheduler/scheduler_config.json", DIT_SCHEDULER)
    write_json(folder / "transformer/config.json", small)
    write_json(folder / "vae/config.json", _VAE)
    network = DiTTransformer2DModel.from_config(small)
    with torch.no_grad():  # gates and labels that matter
        for name, parameter in network.named_parameters():
            if "embedding_table" in name or "norm1.linear" in name or "proj_out_1" in name:
                parameter.normal_(std=0.3)
    save(network, folder / "transformer")
    save(AutoencoderKL.from_config(_VAE), folder / "vae")
    return folder
