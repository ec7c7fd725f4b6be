"""Attention over the joint sequence of text and image tokens of Flux.1."""

import torch
from torch import Tensor, nn

from ..rope import rotate
from .modulation import EPS


class _HeadNorm(nn.RMSNorm):
    """RMS norm over the channels of each head (..., dim)."""

    def forward(self, heads: Tensor) -> Tensor:
        if heads.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(heads)
        # On a CPU torch makes its own of many passes over the heads; this one takes three.
        exact = torch.promote_types(heads.dtype, torch.float32)
        norm = torch.linalg.vector_norm(heads, dim=-1, keepdim=True, dtype=exact)
        return (heads * torch.rsqrt(norm.square() / heads.shape[-1] + EPS)).to(heads.dtype) * self.weight


Heads = tuple[Tensor, Tensor, Tensor]


class _Attention(nn.Module):
    """What both kinds of attention share: projections of tokens (B, L, dim), queries and keys RMS-normed per head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_q = _HeadNorm(dim // heads, eps=EPS)
        self.norm_k = _HeadNorm(dim // heads, eps=EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))

    def _split(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (self.heads, -1))

    def _heads_of(self, hidden: Tensor) -> Heads:
        """Query, key and value (B, L, heads, head_dim)."""
        query, key, value = (self._split(layer(hidden)) for layer in (self.to_q, self.to_k, self.to_v))
        return self.norm_q(query), self.norm_k(key), value


class SingleAttention(_Attention):
    """Attention over the joint sequence, the same projections for text and image, without one for the output."""

    def project(self, joint: Tensor, rope: Tensor) -> Heads:
        """What attends to each other of tokens (B, L, dim)."""
        query, key, value = self._heads_of(joint)
        return rotate(query, rope), rotate(key, rope), value


class DoubleAttention(_Attention):
    """Attention over text tokens and image tokens together, each with projections of their own."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_added_q = _HeadNorm(dim // heads, eps=EPS)
        self.norm_added_k = _HeadNorm(dim // heads, eps=EPS)
        self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(dim, dim) for _ in range(3))
        self.to_add_out = nn.Linear(dim, dim)

    def _heads_of_text(self, hidden: Tensor) -> Heads:
        layers = (self.add_q_proj, self.add_k_proj, self.add_v_proj)
        query, key, value = (self._split(layer(hidden)) for layer in layers)
        return self.norm_added_q(query), self.norm_added_k(key), value

    def project(self, text: Tensor, image: Tensor, rope: Tensor) -> Heads:
        """What attends to each other of both kinds of tokens, text first."""
        pairs = zip(self._heads_of_text(text), self._heads_of(image), strict=True)
        query, key, value = (torch.cat(pair, dim=1) for pair in pairs)
        return rotate(query, rope), rotate(key, rope), value
