"""Adaptive layer norm: shift, scale and gate vectors from an embedding."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6



class Modulation(nn.Module):
    """`parts` vectors of shift, scale or gate, (..., parts * dim), from an activated embedding (..., dim) (DiT, arXiv
    2212.09748)."""

    def __init__(self, dim: int, parts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, parts * dim)

    def forward(self, embedding: Tensor) -> Tensor:
        return self.linear(embedding)


def parts_of(modulations: Tensor, parts: int) -> tuple[Tensor, ...]:
    """The vectors (B, 1, dim) in modulations (B, parts * dim)."""
    return modulations[:, None].chunk(parts, dim=-1)


def modulated(hidden: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights of tokens (B, L, dim), then scaled and shifted."""
    return torch.addcmul(shift, F.layer_norm(hidden, hidden.shape[-1:], eps=EPS), 1 + scale)
