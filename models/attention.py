"""Attention and transformer blocks of the latent-diffusion U-Net (Rombach et al. 2022, arXiv 2112.10752)."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .conv import Conv2d
from .seam import Seam, Site

_LEGACY_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def current_name(name: str) -> str:
    """Current name of a tensor; Diffusers before 0.15 stored those of self-attention over maps under others."""
    head, dot, rest = name.rpartition(".attentions.")
    index, point, leaf = rest.partition(".")
    layer, stop, kind = leaf.rpartition(".")
    return f"{head}{dot}{index}{point}{_LEGACY_ATTENTION.get(layer, layer)}{stop}{kind}" if dot else name


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Computes scaled dot-product attention of all queries to all keys.

    Args:
        query: (B, L, heads, head_dim).
        key: (B, M, heads, head_dim).
        value: (B, M, heads, head_dim).

    Returns:
        (B, L, heads, head_dim).
    """
    query, key, value = (heads.transpose(1, 2) for heads in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)


def attend_some(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Computes attention to some of the first keys and to all others.

    Args:
        query: (B, L, heads, head_dim).
        key: (B, M, heads, head_dim).
        value: (B, M, heads, head_dim).
        mask: (B, P), bool: which of the first P keys are attended to.

    Returns:
        (B, L, heads, head_dim).
    """
    every = F.pad(mask, (0, key.shape[1] - mask.shape[1]), value=True)[:, None, None]
    query, key, value = (heads.transpose(1, 2) for heads in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=every).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head attention with queries from tokens and keys and values from a context, or from the same tokens.

    Args:
        dim: width of the tokens.
        heads: number of heads.
        context_dim: width of the context; None for self-attention.
        bias: whether the query, key and value projections have a bias. The output projection always has one.
    """

    def __init__(self, dim: int, heads: int, context_dim: int | None = None, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=bias)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=bias)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def keys_and_values(self, context: Tensor) -> Tensor:
        """Projects a context (B, M, context_dim) to keys and values, concatenated (B, M, 2 dim)."""
        return torch.cat((self.to_k(context), self.to_v(context)), dim=-1)

    def project(self, hidden: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Projects tokens to queries, keys and values.

        Args:
            hidden: (B, L, dim), tokens.
            context: (B, M, 2 dim), the output of `keys_and_values`; None for self-attention.

        Returns:
            Query (B, L, heads, head_dim), key and value (B, M, heads, head_dim).
        """
        key, value = (self.to_k(hidden), self.to_v(hidden)) if context is None else context.chunk(2, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)) for part in (self.to_q(hidden), key, value))
        return query, key, value

    def leave(self, attended: Tensor) -> Tensor:
        """Projects the attention output (B, L, heads, head_dim) to tokens (B, L, dim)."""
        return self.to_out[0](attended.flatten(2))

    def forward(self, hidden: Tensor, context: Tensor | None = None) -> Tensor:
        """Maps tokens (B, L, dim) to tokens (B, L, dim); `context` as in `project`."""
        return self.leave(attend(*self.project(hidden, context)))


class GEGLU(nn.Module):
    """Gated GELU projection (Shazeer 2020, arXiv 2002.05202), (..., dim) to (..., inner)."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (..., dim) to (..., inner)."""
        value, gate = self.proj(hidden).chunk(2, dim=-1)
        return F.gelu(gate).mul_(value)


class FeedForward(nn.Module):
    """GEGLU feed-forward network with an inner width of four times `dim`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim)])

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (..., dim) to (..., dim)."""
        return self.net[2](self.net[0](hidden))


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward on tokens (B, L, dim), each pre-normed with a residual.

    Sites: each attention of the tokens to each other. Without a text, the cross-attention is a second self-attention.

    Args:
        dim: width of the tokens.
        heads: number of heads.
        context_dim: width of the text context.
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
        """Runs the block.

        Args:
            hidden: (B, L, dim), tokens.
            text: (B, M, 2 dim), keys and values of the text (`Attention.keys_and_values`), or None.
            seam: called at each self-attention.
            site: the block's site.

        Returns:
            Tokens (B, L, dim).
        """
        attended = seam(site.attention("attn1"), attend, *self.enter(hidden))
        if text is not None:
            return self.leave(hidden, attended, text)
        hidden = self.attn1.leave(attended).add_(hidden)
        attended = seam(site.attention("attn2"), attend, *self.attn2.project(self.norm2(hidden)))
        return self._finished(self.attn2.leave(attended).add_(hidden))

    def enter(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Computes query, key and value of the first attention."""
        return self.attn1.project(self.norm1(hidden))

    def leave(self, hidden: Tensor, attended: Tensor, text: Tensor) -> Tensor:
        """Computes everything after the first attention, for a block with a text."""
        hidden = self.attn1.leave(attended).add_(hidden)
        return self._finished(self.attn2(self.norm2(hidden), text).add_(hidden))

    def _finished(self, hidden: Tensor) -> Tensor:
        """Applies the feed-forward with its residual."""
        return self.ff(self.norm3(hidden)).add_(hidden)


class SpatialAttention(Attention):
    """Self-attention over the positions of a feature map (B, C, h, w), group-normed, with a residual.

    Args:
        channels: channels C of the map.
        heads: number of heads.
        groups: groups of the group norm.
        eps: epsilon of the group norm.
    """

    regions: ClassVar[tuple[str, ...]] = ("forward",)

    def __init__(self, channels: int, heads: int, groups: int, eps: float) -> None:
        super().__init__(channels, heads, bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, eps=eps)

    def forward(self, hidden: Tensor, context: Tensor | None = None) -> Tensor:
        """Maps (B, C, h, w) to (B, C, h, w)."""
        size = (hidden.shape[-2], hidden.shape[-1])
        return hidden + _to_map(super().forward(_to_tokens(self.group_norm(hidden)), context), size)


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map (B, C, h, w), with a residual around them.

    Args:
        channels: channels C of the map.
        heads: number of heads.
        layers: number of blocks.
        context_dim: width of the text context.
        groups: groups of the group norm.
        linear: whether the input and output projections are linear layers instead of 1x1 convolutions.
    """

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")

    def __init__(self, channels: int, heads: int, layers: int, context_dim: int, groups: int, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels) if linear else Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads, context_dim) for _ in range(layers)])
        self.proj_out = nn.Linear(channels, channels) if linear else Conv2d(channels, channels, 1)

    def forward(self, hidden: Tensor, texts: Mapping[str, Tensor], seam: Seam, name: str, depth: int) -> Tensor:
        """Runs the blocks.

        Args:
            hidden: (B, C, h, w).
            texts: block name -> keys and values (B, M, 2 C) of its cross-attention; blocks not listed have no text.
            seam: called at each block and attention.
            name: prefix of the block names.
            depth: number of downsamplings above.

        Returns:
            (B, C, h, w).
        """
        size = (hidden.shape[-2], hidden.shape[-1])
        tokens = self.enter(hidden)
        for index, block in enumerate(self.transformer_blocks):
            site = Site("block", f"{name}.transformer_blocks.{index}", depth, size)
            tokens = seam(site, partial(block, seam=seam, site=site), tokens, texts.get(site.name))
        return self.leave(hidden, tokens)

    def enter(self, hidden: Tensor) -> Tensor:
        """Converts a map (B, C, h, w) to tokens (B, h*w, C)."""
        normed = self.norm(hidden)
        return self.proj_in(_to_tokens(normed)) if self.linear else _to_tokens(self.proj_in(normed))

    def leave(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Adds the tokens (B, h*w, C), converted to a map, to the input map."""
        size = (hidden.shape[-2], hidden.shape[-1])
        change = _to_map(self.proj_out(tokens), size) if self.linear else self.proj_out(_to_map(tokens, size))
        return hidden + change


def _to_tokens(feature_map: Tensor) -> Tensor:
    return feature_map.flatten(2).transpose(1, 2)


def _to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, size)
