"""Small networks with random weights in float64."""

from typing import Any

import torch

from sadaflow.models import FluxConfig, FluxTransformer, UNet, UNetConfig


def small_flux(single: int, double: int = 2) -> FluxTransformer:
    """So many double and single blocks, of 8-channel tokens."""
    torch.manual_seed(0)
    axes: dict[str, Any] = {"attention_head_dim": 16, "num_attention_heads": 2, "axes_dims_rope": (4, 6, 6)}
    widths = {"in_channels": 8, "joint_attention_dim": 12, "pooled_projection_dim": 10}
    net = FluxTransformer(FluxConfig(num_layers=double, num_single_layers=single, **axes, **widths))
    return net.double().requires_grad_(False).eval()


def small_unet() -> UNet:
    """Two levels of two layers, the upper one with cross-attention."""
    torch.manual_seed(1)
    config = {
        "sample_size": 8,
        "in_channels": 2,
        "out_channels": 2,
        "block_out_channels": [8, 16],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "layers_per_block": 2,
        "cross_attention_dim": 12,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet(UNetConfig.from_dict(config)).double().requires_grad_(False).eval()
