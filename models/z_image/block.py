"""The transformer block of Z-Image: RMS norms before and after both branches, no shifts, gates through tanh."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..norm import RMSNorm
from ..rope import rotate
from ..seam import Seam, Site
from ..streams.stack import attended
from .config import ZImageConfig

_HEAD_EPS = 1e-5
Heads = tuple[Tensor, Tensor, Tensor]


class _Attention(nn.Module):
    """Projections of self-attention, with queries and keys RMS-normed per head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_q, self.norm_k = RMSNorm(dim // heads, _HEAD_EPS), RMSNorm(dim // heads, _HEAD_EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim, bias=False)])

    def project(self, hidden: Tensor, rope: Tensor) -> Heads:
        """Computes rotated query, rotated key and value (B, L, heads, head_dim)."""
        heads = (layer(hidden).unflatten(-1, (self.heads, -1)) for layer in (self.to_q, self.to_k, self.to_v))
        query, key, value = heads
        return rotate(self.norm_q(query), rope), rotate(self.norm_k(key), rope), value


class _FeedForward(nn.Module):
    """SiLU-gated feed-forward network (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, inner, bias=False)
        self.w2 = nn.Linear(inner, dim, bias=False)
        self.w3 = nn.Linear(dim, inner, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(hidden)) * self.w3(hidden))


class Block(nn.Module):
    """Self-attention and feed-forward on tokens (B, L, dim).

    Args:
        config: the architecture.
        modulated: whether scales and gates are computed from the time.
    """

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")
    parts: ClassVar[int] = 4
    """Number of modulation vectors: scale and gate of attention, then of the feed-forward."""

    def __init__(self, config: ZImageConfig, modulated: bool) -> None:
        super().__init__()
        dim = config.dim
        self.attention = _Attention(dim, config.n_heads)
        self.feed_forward = _FeedForward(dim, int(dim / 3 * 8))
        self.attention_norm1, self.ffn_norm1 = RMSNorm(dim, config.norm_eps), RMSNorm(dim, config.norm_eps)
        self.attention_norm2, self.ffn_norm2 = RMSNorm(dim, config.norm_eps), RMSNorm(dim, config.norm_eps)
        if modulated:
            self.adaLN_modulation = nn.Sequential(nn.Linear(config.embedding_dim, self.parts * dim))

    def modulations(self, embedding: Tensor) -> Tensor:
        """Computes factors (..., parts * dim) from a time embedding (..., width): 1 + scale, tanh(gate), likewise."""
        scale, gate, inner_scale, inner_gate = self.adaLN_modulation(embedding).chunk(self.parts, dim=-1)
        return torch.cat((1 + scale, gate.tanh(), 1 + inner_scale, inner_gate.tanh()), dim=-1)

    def first_look(self, image: Tensor, modulations: Tensor) -> Tensor:
        """Computes the normed and scaled image tokens (B, N, dim) that attention reads."""
        return self.attention_norm1(image) * self._parts(modulations)[0]

    def forward(
        self,
        joint: Tensor,
        modulations: Tensor | None,
        rope: Tensor,
        mask: Tensor | None = None,
        *,
        seam: Seam,
        site: Site,
    ) -> Tensor:
        """Runs the block.

        Args:
            joint: (B, L, dim).
            modulations: (B, parts * dim), output of `modulations`; None for a block without them.
            rope: (B, L, head_dim/2, 2), rotary table.
            mask: (B, P), bool: which of the first P tokens are attended to; None for all.
            seam: called at the attention.
            site: the block's site.

        Returns:
            (B, L, dim).
        """
        heads = self.enter(joint, modulations, rope)
        return self.leave(joint, attended(seam, site.attention("attention"), heads, mask), modulations)

    def enter(self, joint: Tensor, modulations: Tensor | None, rope: Tensor) -> Heads:
        """Computes query, key and value."""
        normed = self.attention_norm1(joint)
        return self.attention.project(normed if modulations is None else normed * self._parts(modulations)[0], rope)

    def leave(self, joint: Tensor, mixed: Tensor, modulations: Tensor | None) -> Tensor:
        """Computes everything after the attention, whose output is `mixed` (B, L, heads, head_dim)."""
        change = self.attention_norm2(self.attention.to_out[0](mixed.flatten(2)))
        if modulations is None:
            joint = joint + change
            return joint + self.ffn_norm2(self.feed_forward(self.ffn_norm1(joint)))
        _, gate, inner_scale, inner_gate = self._parts(modulations)
        joint = joint + gate * change
        return joint + inner_gate * self.ffn_norm2(self.feed_forward(self.ffn_norm1(joint) * inner_scale))

    def _parts(self, modulations: Tensor) -> tuple[Tensor, ...]:
        """Splits factors (B, parts * dim) into vectors (B, 1, dim)."""
        return modulations[:, None].chunk(self.parts, dim=-1)
