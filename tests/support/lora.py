"""Layers of a small U-Net, and LoRA factors for them."""

import torch
from torch import Tensor

RANK, SCALE = 3, 0.7
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
QUERY, OUT, CONV = f"{ATTENTION}.to_q", f"{ATTENTION}.to_out.0", "up_blocks.1.resnets.2.conv1"


def factors(shape: torch.Size, seed: int) -> tuple[Tensor, Tensor]:
    """Up and down for a layer of this shape; a convolution's down has its kernel."""
    generator = torch.Generator().manual_seed(seed)
    ones = (1,) * (len(shape) - 2)
    return torch.randn((shape[0], RANK, *ones), generator=generator), torch.randn(
        (RANK, *shape[1:]), generator=generator
    )
