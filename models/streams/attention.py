"""Attention over the joint sequence of text and image tokens."""

import torch
from torch import Tensor, nn

from ..norm import RMSNorm
from ..rope import rotate
from .modulation import EPS
from .style import Style

Heads = tuple[Tensor, Tensor, Tensor]


def _head_norms(dim: int, style: Style) -> tuple[nn.Module, nn.Module]:
    """Builds the norms of queries and keys."""
    return (RMSNorm(dim, EPS), RMSNorm(dim, EPS)) if style.normed else (nn.Identity(), nn.Identity())


class _Attention(nn.Module):
    """Base of both attentions: projections of tokens (B, L, dim), with queries and keys RMS-normed per head."""

    def __init__(self, dim: int, heads: int, style: Style) -> None:
        super().__init__()
        self.heads = heads
        self.norm_q, self.norm_k = _head_norms(dim // heads, style)
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim, bias=style.bias) for _ in range(3))

    def _split(self, projected: Tensor) -> Tensor:
        """Splits projected tokens (B, L, dim) into heads (B, L, heads, head_dim)."""
        return projected.unflatten(-1, (self.heads, -1))

    def _heads_of(self, hidden: Tensor) -> Heads:
        """Computes query, key and value (B, L, heads, head_dim)."""
        query, key, value = (self._split(layer(hidden)) for layer in (self.to_q, self.to_k, self.to_v))
        return self.norm_q(query), self.norm_k(key), value


class SingleAttention(_Attention):
    """Attention with the same projections for text and image tokens and no output projection.

    Args:
        dim: width of the tokens.
        heads: number of heads.
        style: see `Style`.
    """

    def project(self, joint: Tensor, rope: Tensor) -> Heads:
        """Computes rotated query, rotated key and value of the joint sequence.

        Args:
            joint: (B, L, dim), text tokens followed by image tokens.
            rope: (B, L, head_dim/2, 2), rotary table.

        Returns:
            Three tensors (B, L, heads, head_dim).
        """
        query, key, value = self._heads_of(joint)
        return rotate(query, rope), rotate(key, rope), value


class ImageAttention(_Attention):
    """Attention of the image tokens to each other, without positions.

    Args:
        dim: width of the tokens.
        heads: number of heads.
        style: see `Style`.
    """

    def __init__(self, dim: int, heads: int, style: Style) -> None:
        super().__init__(dim, heads, style)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim, bias=style.bias)])

    def project(self, image: Tensor) -> Heads:
        """Computes query, key and value (B, N, heads, head_dim) of image tokens (B, N, dim)."""
        return self._heads_of(image)


class DoubleAttention(_Attention):
    """Attention over text and image tokens together, with separate projections for each.

    Args:
        dim: width of the tokens.
        heads: number of heads.
        style: see `Style`.
        reads_only: whether text tokens are attended to and get no output.
    """

    def __init__(self, dim: int, heads: int, style: Style, reads_only: bool = False) -> None:
        super().__init__(dim, heads, style)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim, bias=style.bias)])
        self.norm_added_q, self.norm_added_k = _head_norms(dim // heads, style)
        self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(dim, dim, bias=style.bias) for _ in range(3))
        if not reads_only:
            self.to_add_out = nn.Linear(dim, dim, bias=style.bias)

    def _heads_of_text(self, hidden: Tensor) -> Heads:
        """Computes query, key and value (B, L, heads, head_dim) of the text tokens."""
        layers = (self.add_q_proj, self.add_k_proj, self.add_v_proj)
        query, key, value = (self._split(layer(hidden)) for layer in layers)
        return self.norm_added_q(query), self.norm_added_k(key), value

    def project(self, text: Tensor, image: Tensor, rope: Tensor | None) -> Heads:
        """Computes rotated query, rotated key and value of the joint sequence, text first.

        Args:
            text: (B, L, dim).
            image: (B, N, dim).
            rope: (B, L + N, head_dim/2, 2), rotary table; None without rotary positions.

        Returns:
            Three tensors (B, L + N, heads, head_dim).
        """
        pairs = zip(self._heads_of_text(text), self._heads_of(image), strict=True)
        query, key, value = (torch.cat(pair, dim=1) for pair in pairs)
        if rope is None:
            return query, key, value
        return rotate(query, rope), rotate(key, rope), value
