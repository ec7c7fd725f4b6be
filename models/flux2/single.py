"""The single-stream block of FLUX.2, with one matrix in and one out (after Dehghani et al. 2023, arXiv 2302.05442)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..norm import RMSNorm
from ..rope import rotate
from ..seam import Seam, Site
from ..streams.blocks import clamp_half
from ..streams.feed_forward import silu_gated
from ..streams.modulation import EPS, modulated, parts_of
from ..streams.stack import attended


class _Projections(nn.Module):
    """The matrices of attention and feed-forward together."""

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.to_qkv_mlp_proj = nn.Linear(dim, 3 * dim + 2 * inner, bias=False)
        self.norm_q, self.norm_k = RMSNorm(dim // heads, EPS), RMSNorm(dim // heads, EPS)
        self.to_out = nn.Linear(dim + inner, dim, bias=False)

    def project(self, hidden: Tensor, rope: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Computes rotated query, rotated key and value (B, L, heads, head_dim), and the feed-forward's both halves."""
        joined = self.to_qkv_mlp_proj(hidden)
        heads, inner = joined.split((3 * self.dim, joined.shape[-1] - 3 * self.dim), dim=-1)
        query, key, value = heads.unflatten(-1, (3, self.heads, -1)).unbind(2)
        return rotate(self.norm_q(query), rope), rotate(self.norm_k(key), rope), value, inner


class SingleBlock(nn.Module):
    """Attention and gated feed-forward in parallel on the joint sequence, with the same weights for text and image.

    Args:
        dim: width of the tokens.
        heads: number of heads.
        ratio: inner width of the feed-forward in multiples of `dim`.
    """

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")
    parts: ClassVar[int] = 3
    """Number of modulation vectors: shift, scale and gate."""

    def __init__(self, dim: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.attn = _Projections(dim, heads, int(dim * ratio))

    def first_look(self, image: Tensor, modulations: Tensor) -> Tensor:
        """Computes the normed and modulated image tokens (B, N, dim) that attention reads."""
        return modulated(image, *parts_of(modulations, self.parts)[:2])

    def forward(
        self, joint: Tensor, modulations: Tensor, rope: Tensor, mask: Tensor | None = None, *, seam: Seam, site: Site
    ) -> Tensor:
        """Runs the block; arguments as in `DoubleBlock.forward`."""
        *heads, inner = self.enter(joint, modulations, rope)
        return self.leave(joint, attended(seam, site.attention("attn"), heads, mask), inner, modulations)

    def enter(self, joint: Tensor, modulations: Tensor, rope: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Computes query, key and value, and the feed-forward's inner activations (B, L, inner)."""
        *heads, inner = self.attn.project(self.first_look(joint, modulations), rope)
        query, key, value = heads
        return query, key, value, silu_gated(inner)

    def leave(self, joint: Tensor, mixed: Tensor, inner: Tensor, modulations: Tensor) -> Tensor:
        """Computes everything after the attention, whose output is `mixed` (B, L, heads, head_dim)."""
        gate = parts_of(modulations, self.parts)[2]
        change = self.attn.to_out(torch.cat((mixed.flatten(2), inner), dim=2))
        return clamp_half(torch.addcmul(joint, gate, change))
