"""Random ControlNets for small transformers, written by Diffusers in the styles of published ones."""

from pathlib import Path
from typing import Any

import torch
from diffusers import FluxControlNetModel, SD3ControlNetModel
from torch import nn

from support.checkpoints_flux import FLUX
from support.checkpoints_sd3 import SMALL

_FLUX = {
    "_class_name": "FluxControlNetModel",
    "_diffusers_version": "0.30.0.dev0",
    "attention_head_dim": 128,
    "axes_dims_rope": [16, 56, 56],
    "guidance_embeds": True,
    "in_channels": 64,
    "joint_attention_dim": 4096,
    "num_attention_heads": 24,
    "num_layers": 5,
    "num_mode": None,
    "num_single_layers": 0,
    "patch_size": 1,
    "pooled_projection_dim": 768,
}
_SD3 = {
    "_class_name": "SD3ControlNetModel",
    "attention_head_dim": 64,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "pooled_projection_dim": 2048,
    "sample_size": 128,
}
FLUX_NETS: dict[str, dict[str, Any]] = {  # the fields of the published config.json of each
    "canny": _FLUX,
    "union": {**_FLUX, "_name_or_path": "/mnt/wangqixun/", "num_mode": 10, "num_single_layers": 10},
    "union-pro-2": {**_FLUX, "num_layers": 6},
    "xlabs": {
        **{name: value for name, value in _FLUX.items() if name != "num_mode"},
        "_diffusers_version": "0.31.0.dev0",
        "conditioning_embedding_channels": 16,
        "num_layers": 2,
        "patch_size": 2,
    },
}
SD3_NETS: dict[str, dict[str, Any]] = {
    "3 canny": {
        **_SD3,
        "_diffusers_version": "0.30.0.dev0",
        "caption_projection_dim": 1536,
        "joint_attention_dim": 4096,
        "num_attention_heads": 24,
        "num_layers": 6,
        "pos_embed_max_size": 192,
    },
    "3.5 large": {
        **_SD3,
        "_diffusers_version": "0.32.0.dev0",
        "caption_projection_dim": 2048,
        "dual_attention_layers": [],
        "extra_conditioning_channels": 0,
        "force_zeros_for_pooled_projection": False,
        "joint_attention_dim": None,
        "num_attention_heads": 38,
        "num_layers": 19,
        "pos_embed_max_size": None,
        "pos_embed_type": None,
        "qk_norm": None,
        "use_pos_embed": False,
    },
}


def _written(net: Any, folder: Path) -> Path:
    """Write a network, whose residuals are large enough to matter."""
    for name, module in net.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and name.startswith(("controlnet_", "pos_embed_input")):
            nn.init.normal_(module.weight, std=0.3 / module.weight[0].numel() ** 0.5)
            nn.init.normal_(module.bias, std=0.1)
    net.save_pretrained(folder)
    return folder


def _small(published: dict[str, Any], small: dict[str, Any], **changes: Any) -> dict[str, Any]:
    fields = {**published, **{name: value for name, value in small.items() if name in published}, **changes}
    return {name: value for name, value in fields.items() if not name.startswith("_")}


def flux_controlnet(folder: Path, style: str, seed: int = 5, **changes: Any) -> Path:
    """Write a ControlNet in one of the styles of `FLUX_NETS`, for the transformer of `FLUX`; returns its folder."""
    torch.manual_seed(seed)
    layers = {"num_layers": 1, "num_single_layers": min(1, FLUX_NETS[style]["num_single_layers"])}
    return _written(FluxControlNetModel(**_small(FLUX_NETS[style], FLUX, **{**layers, **changes})), folder)


def sd3_controlnet(folder: Path, style: str, seed: int = 5, **changes: Any) -> Path:
    """Write a ControlNet in one of the styles of `SD3_NETS`, for a transformer of `SMALL`; returns its folder."""
    torch.manual_seed(seed)
    kept = {"num_layers": 2}
    if style == "3.5 large":
        kept |= {"joint_attention_dim": None, "pos_embed_max_size": None}
    net = SD3ControlNetModel(**_small(SD3_NETS[style], SMALL, **{**kept, **changes}))
    if net.pos_embed is not None:  # what the file holds counts
        net.pos_embed.pos_embed.add_(0.1 * torch.randn_like(net.pos_embed.pos_embed))
    return _written(net, folder)
