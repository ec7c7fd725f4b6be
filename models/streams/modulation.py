"""Adaptive layer norm: shift, scale and gate vectors computed from an embedding (DiT, arXiv 2212.09748)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6


class Modulation(nn.Module):
    """Computes `parts` vectors of shift, scale or gate from an activated embedding.

    Args:
        dim: width of the embedding and of each vector.
        parts: number of vectors.
        bias: whether the layer has a bias.
    """

    def __init__(self, dim: int, parts: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, parts * dim, bias=bias)

    def forward(self, embedding: Tensor) -> Tensor:
        """Maps an embedding (..., dim) to vectors (..., parts * dim)."""
        return self.linear(embedding)


def parts_of(modulations: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Splits modulations (B, parts * dim) into `parts` vectors (B, 1, dim)."""
    return modulations[:, None].chunk(parts, dim=-1)


def modulated(hidden: Tensor, shift: Tensor, scale: Tensor, *, eps: float = EPS) -> Tensor:
    """Computes layer_norm(hidden) * (1 + scale) + shift for tokens (B, L, dim), with a norm without weights."""
    return torch.addcmul(shift, F.layer_norm(hidden, hidden.shape[-1:], eps=eps), 1 + scale)
