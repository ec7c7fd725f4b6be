"""Transformer blocks of Flux.1 (after MM-DiT, Esser et al. 2024, arXiv 2403.03206): double and single stream.

Both run on the joint sequence (B, L + N, dim) of L text tokens, then N image tokens, with an embedding (B, dim) of
time, guidance and pooled text, and the image tokens' rotary table (B, N, head_dim/2, 2). Text tokens have position
zero, which no rotation changes.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import Attend, attend
from .rope import rotate
from .seam import Seam, Site

_EPS = 1e-6
_HALF_MAX = torch.finfo(torch.float16).max


class Modulation(nn.Module):
    """`parts` vectors (B, 1, dim) of shift, scale or gate from an embedding (B, dim) (DiT, arXiv 2212.09748)."""

    def __init__(self, dim: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(dim, parts * dim)

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        return self.linear(F.silu(embedding))[:, None].chunk(self.parts, dim=-1)


def modulated(hidden: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights of tokens (B, L, dim), then scaled and shifted."""
    return F.layer_norm(hidden, hidden.shape[-1:], eps=_EPS) * (1 + scale) + shift


def _within_half(hidden: Tensor) -> Tensor:
    """float16 activations of this model overflow; the published code holds them at the largest number."""
    return hidden.clamp(-_HALF_MAX, _HALF_MAX) if hidden.dtype == torch.float16 else hidden


class _GELU(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, inner)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.gelu(self.proj(hidden), approximate="tanh")


class _FeedForward(nn.Module):
    """GELU feed-forward of four times the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([_GELU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim)])

    def forward(self, hidden: Tensor) -> Tensor:
        return self.net[2](self.net[0](hidden))


Heads = tuple[Tensor, Tensor, Tensor]


class _Attention(nn.Module):
    """What both kinds of attention share: projections of tokens (B, L, dim), queries and keys RMS-normed per head."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_q = nn.RMSNorm(dim // heads, eps=_EPS)
        self.norm_k = nn.RMSNorm(dim // heads, eps=_EPS)
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))

    def _split(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _project(self, hidden: Tensor) -> Heads:
        """Query, key and value (B, heads, L, head_dim)."""
        query, key, value = (self._split(layer(hidden)) for layer in (self.to_q, self.to_k, self.to_v))
        return self.norm_q(query), self.norm_k(key), value


class SingleAttention(_Attention):
    """Attention over the joint sequence, the same projections for text and image, without one for the output."""

    def forward(self, joint: Tensor, rope: Tensor, attending: Attend) -> Tensor:
        query, key, value = self._project(joint)
        length = joint.shape[1] - rope.shape[1]
        query, key = (
            torch.cat((heads[:, :, :length], rotate(heads[:, :, length:], rope)), dim=2) for heads in (query, key)
        )
        return _joined(query, key, value, attending)


class DoubleAttention(_Attention):
    """Attention over text tokens and image tokens together, each with projections of their own."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_added_q = nn.RMSNorm(dim // heads, eps=_EPS)
        self.norm_added_k = nn.RMSNorm(dim // heads, eps=_EPS)
        self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(dim, dim) for _ in range(3))
        self.to_add_out = nn.Linear(dim, dim)

    def _project_text(self, hidden: Tensor) -> Heads:
        layers = (self.add_q_proj, self.add_k_proj, self.add_v_proj)
        query, key, value = (self._split(layer(hidden)) for layer in layers)
        return self.norm_added_q(query), self.norm_added_k(key), value

    def forward(self, text: Tensor, image: Tensor, rope: Tensor, attending: Attend) -> tuple[Tensor, Tensor]:
        text_query, text_key, text_value = self._project_text(text)
        query, key, value = self._project(image)
        attended = _joined(
            torch.cat((text_query, rotate(query, rope)), dim=2),
            torch.cat((text_key, rotate(key, rope)), dim=2),
            torch.cat((text_value, value), dim=2),
            attending,
        )
        text, image = _parts(attended, rope)
        return self.to_add_out(text), self.to_out[0](image)


def _joined(query: Tensor, key: Tensor, value: Tensor, attending: Attend) -> Tensor:
    """What heads (B, heads, L, head_dim) attend to, (B, L, dim)."""
    return attending(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)).flatten(2)


def _parts(joint: Tensor, rope: Tensor) -> tuple[Tensor, Tensor]:
    """The text tokens and the image tokens of a joint sequence."""
    length = joint.shape[1] - rope.shape[1]
    return joint[:, :length], joint[:, length:]


class DoubleBlock(nn.Module):
    """Text and image tokens attend together; norms, projections and feed-forwards are each stream's own."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = Modulation(dim, 6)
        self.norm1_context = Modulation(dim, 6)
        self.attn = DoubleAttention(dim, heads)
        self.ff = _FeedForward(dim)
        self.ff_context = _FeedForward(dim)

    def first_look(self, image: Tensor, embedding: Tensor) -> Tensor:
        """What attention reads of the image tokens (B, N, dim)."""
        return modulated(image, *self.norm1(embedding)[:2])

    def forward(self, joint: Tensor, embedding: Tensor, rope: Tensor, seam: Seam, site: Site) -> Tensor:
        text, image = _parts(joint, rope)
        image_parts, text_parts = self.norm1(embedding), self.norm1_context(embedding)
        attending = partial(seam, site.attention("attn"), attend)
        text_change, image_change = self.attn(
            modulated(text, *text_parts[:2]), modulated(image, *image_parts[:2]), rope, attending
        )
        image = _finished(image, image_change, image_parts[2:], self.ff)
        text = _finished(text, text_change, text_parts[2:], self.ff_context)
        return torch.cat((_within_half(text), image), dim=1)


def _finished(hidden: Tensor, change: Tensor, parts: tuple[Tensor, ...], feed_forward: nn.Module) -> Tensor:
    """A stream after its attention: gated residual, then the modulated and gated feed-forward."""
    attention_gate, shift, scale, gate = parts
    hidden = hidden + attention_gate * change
    return hidden + gate * feed_forward(modulated(hidden, shift, scale))


class SingleBlock(nn.Module):
    """Attention and feed-forward side by side on the joint sequence, with the same weights for text and image."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm = Modulation(dim, 3)
        self.proj_mlp = nn.Linear(dim, 4 * dim)
        self.proj_out = nn.Linear(5 * dim, dim)
        self.attn = SingleAttention(dim, heads)

    def first_look(self, image: Tensor, embedding: Tensor) -> Tensor:
        """What attention reads of the image tokens (B, N, dim)."""
        return modulated(image, *self.norm(embedding)[:2])

    def forward(self, joint: Tensor, embedding: Tensor, rope: Tensor, seam: Seam, site: Site) -> Tensor:
        shift, scale, gate = self.norm(embedding)
        normed = modulated(joint, shift, scale)
        attended = self.attn(normed, rope, partial(seam, site.attention("attn"), attend))
        mixed = torch.cat((attended, F.gelu(self.proj_mlp(normed), approximate="tanh")), dim=2)
        return _within_half(joint + gate * self.proj_out(mixed))
