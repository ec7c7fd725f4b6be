"""Attention and transformer blocks of the latent-diffusion U-Net (Rombach et al. 2022, arXiv 2112.10752)."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .conv import Conv2d
from .seam import Seam, Site


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention of queries (B, L, heads, head_dim) to M keys and values; shaped as the queries."""
    query, key, value = (heads.transpose(1, 2) for heads in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head attention: queries from `hidden` (B, L, dim), keys and values from a context (B, M, context_dim).

    Without a context it attends to itself. `bias` concerns the three input projections; the output has always one.
    """

    def __init__(self, dim: int, heads: int, context_dim: int | None = None, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=bias)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=bias)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def keys_and_values(self, context: Tensor) -> Tensor:
        """Those of a context (B, M, context_dim), side by side (B, M, 2 dim)."""
        return torch.cat((self.to_k(context), self.to_v(context)), dim=-1)

    def project(self, hidden: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value (B, L or M, heads, head_dim); `context` is what `keys_and_values` made of it."""
        key, value = (self.to_k(hidden), self.to_v(hidden)) if context is None else context.chunk(2, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)) for part in (self.to_q(hidden), key, value))
        return query, key, value

    def leave(self, attended: Tensor) -> Tensor:
        """Tokens (B, L, dim) of what heads (B, L, heads, head_dim) attended to."""
        return self.to_out[0](attended.flatten(2))

    def forward(self, hidden: Tensor, context: Tensor | None = None) -> Tensor:
        return self.leave(attend(*self.project(hidden, context)))


class GEGLU(nn.Module):
    """Gated GELU projection (Shazeer 2020, arXiv 2002.05202): (..., dim) -> (..., inner)."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner)

    def forward(self, hidden: Tensor) -> Tensor:
        value, gate = self.proj(hidden).chunk(2, dim=-1)
        return F.gelu(gate).mul_(value)


class FeedForward(nn.Module):
    """GEGLU feed-forward of four times the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim)])

    def forward(self, hidden: Tensor) -> Tensor:
        return self.net[2](self.net[0](hidden))


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each pre-normed with a residual, on tokens (B, L, dim).

    The cross-attention reads keys and values of a text (B, M, 2 dim), see `Attention.keys_and_values`; without one it
    is a second self-attention. Sites: each attention of the tokens to each other.
    """

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")

    def __init__(self, dim: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = Attention(dim, heads, context_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim)

    def forward(self, hidden: Tensor, text: Tensor | None, *, seam: Seam, site: Site) -> Tensor:
        attended = seam(site.attention("attn1"), attend, *self.enter(hidden))
        if text is not None:
            return self.leave(hidden, attended, text)
        hidden = self.attn1.leave(attended).add_(hidden)
        attended = seam(site.attention("attn2"), attend, *self.attn2.project(self.norm2(hidden)))
        return self._finished(self.attn2.leave(attended).add_(hidden))

    def enter(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What comes before the first attention."""
        return self.attn1.project(self.norm1(hidden))

    def leave(self, hidden: Tensor, attended: Tensor, text: Tensor) -> Tensor:
        """What comes behind it where there is a text."""
        hidden = self.attn1.leave(attended).add_(hidden)
        return self._finished(self.attn2(self.norm2(hidden), text).add_(hidden))

    def _finished(self, hidden: Tensor) -> Tensor:
        return self.ff(self.norm3(hidden)).add_(hidden)


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map (B, C, h, w), with a residual around them."""

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")

    def __init__(self, channels: int, heads: int, layers: int, context_dim: int, groups: int, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels) if linear else Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads, context_dim) for _ in range(layers)])
        self.proj_out = nn.Linear(channels, channels) if linear else Conv2d(channels, channels, 1)

    def forward(self, hidden: Tensor, texts: Mapping[str, Tensor], seam: Seam, name: str, depth: int) -> Tensor:
        """`texts` are what the blocks' cross-attentions read, by the names of the blocks."""
        size = (hidden.shape[-2], hidden.shape[-1])
        tokens = self.enter(hidden)
        for index, block in enumerate(self.transformer_blocks):
            site = Site("block", f"{name}.transformer_blocks.{index}", depth, size)
            tokens = seam(site, partial(block, seam=seam, site=site), tokens, texts.get(site.name))
        return self.leave(hidden, tokens)

    def enter(self, hidden: Tensor) -> Tensor:
        """The tokens (B, h*w, C) of a map."""
        normed = self.norm(hidden)
        return self.proj_in(_to_tokens(normed)) if self.linear else _to_tokens(self.proj_in(normed))

    def leave(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """The map that tokens change the one before into."""
        size = (hidden.shape[-2], hidden.shape[-1])
        change = _to_map(self.proj_out(tokens), size) if self.linear else self.proj_out(_to_map(tokens, size))
        return hidden + change


def _to_tokens(feature_map: Tensor) -> Tensor:
    return feature_map.flatten(2).transpose(1, 2)


def _to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, size)
