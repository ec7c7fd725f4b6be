"""Transformer blocks of Flux.1 (after MM-DiT, Esser et al. 2024, arXiv 2403.03206): double and single stream.

Both run on the joint sequence (B, L + N, dim) of L text tokens, then N image tokens, with the modulations (B, parts *
dim) that time, guidance and pooled text ask of it, and the rotary table (B, L + N, head_dim/2, 2) of all tokens. Text
tokens have position zero, which no rotation changes.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import attend
from ..seam import Seam, Site
from .attention import DoubleAttention, Heads, SingleAttention
from .modulation import Modulation, modulated, parts_of

_GELU_SLOPE = math.sqrt(8 / math.pi)
_HALF_MAX = torch.finfo(torch.float16).max


def _within_half(hidden: Tensor) -> Tensor:
    """float16 activations of this model overflow; the published code holds them at the largest number."""
    return hidden.clamp(-_HALF_MAX, _HALF_MAX) if hidden.dtype == torch.float16 else hidden


def _gelu(hidden: Tensor) -> Tensor:
    """GELU in its tanh form; on a CPU as the sigmoid that it is, at half the time of torch's own."""
    if hidden.device.type != "cpu" or hidden.dtype != torch.float32 or hidden.requires_grad:
        return F.gelu(hidden, approximate="tanh")
    inner = hidden.square().mul_(0.044715 * _GELU_SLOPE).add_(_GELU_SLOPE).mul_(hidden)
    return inner.sigmoid_().mul_(hidden)


class _GELU(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, inner)

    def forward(self, hidden: Tensor) -> Tensor:
        return _gelu(self.proj(hidden))


class _FeedForward(nn.Module):
    """GELU feed-forward of four times the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([_GELU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim)])

    def forward(self, hidden: Tensor) -> Tensor:
        return self.net[2](self.net[0](hidden))


class DoubleBlock(nn.Module):
    """Text and image tokens attend together; norms, projections and feed-forwards are each stream's own."""

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")
    parts: ClassVar[int] = 12
    """Vectors in its modulations: shift, scale and gate for attention, then feed-forward, of the image and the text."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = Modulation(dim, 6)
        self.norm1_context = Modulation(dim, 6)
        self.attn = DoubleAttention(dim, heads)
        self.ff = _FeedForward(dim)
        self.ff_context = _FeedForward(dim)

    @property
    def modulations(self) -> list[Modulation]:
        return [self.norm1, self.norm1_context]

    def first_look(self, image: Tensor, modulations: Tensor) -> Tensor:
        """What attention reads of the image tokens (B, N, dim)."""
        return modulated(image, *parts_of(modulations, self.parts)[:2])

    def forward(self, joint: Tensor, modulations: Tensor, rope: Tensor, *, seam: Seam, site: Site) -> Tensor:
        heads = self.enter(joint, modulations, rope, site.prefix)
        attended = seam(site.attention("attn"), attend, *heads)
        return self.leave(joint, attended, modulations, site.prefix)

    def enter(self, joint: Tensor, modulations: Tensor, rope: Tensor, length: int) -> Heads:
        """What comes before the attention; the first `length` tokens are text."""
        image_parts, text_parts = self._parts(modulations)
        text, image = joint[:, :length], joint[:, length:]
        return self.attn.project(modulated(text, *text_parts[:2]), modulated(image, *image_parts[:2]), rope)

    def leave(self, joint: Tensor, attended: Tensor, modulations: Tensor, length: int) -> Tensor:
        """What comes behind it."""
        image_parts, text_parts = self._parts(modulations)
        text, image, attended = joint[:, :length], joint[:, length:], attended.flatten(2)
        image = _finished(image, self.attn.to_out[0](attended[:, length:]), image_parts[2:], self.ff)
        text = _finished(text, self.attn.to_add_out(attended[:, :length]), text_parts[2:], self.ff_context)
        return torch.cat((_within_half(text), image), dim=1)

    def _parts(self, modulations: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Those of the image, and of the text."""
        parts = parts_of(modulations, self.parts)
        return parts[:6], parts[6:]


def _finished(hidden: Tensor, change: Tensor, parts: tuple[Tensor, ...], feed_forward: nn.Module) -> Tensor:
    """A stream after its attention: gated residual, then the modulated and gated feed-forward."""
    attention_gate, shift, scale, gate = parts
    hidden = torch.addcmul(hidden, attention_gate, change)
    return torch.addcmul(hidden, gate, feed_forward(modulated(hidden, shift, scale)))


class SingleBlock(nn.Module):
    """Attention and feed-forward side by side on the joint sequence, with the same weights for text and image."""

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")
    parts: ClassVar[int] = 3
    """Vectors in its modulations: shift, scale and gate."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm = Modulation(dim, 3)
        self.proj_mlp = nn.Linear(dim, 4 * dim)
        self.proj_out = nn.Linear(5 * dim, dim)
        self.attn = SingleAttention(dim, heads)

    @property
    def modulations(self) -> list[Modulation]:
        return [self.norm]

    def first_look(self, image: Tensor, modulations: Tensor) -> Tensor:
        """What attention reads of the image tokens (B, N, dim)."""
        return modulated(image, *parts_of(modulations, self.parts)[:2])

    def forward(self, joint: Tensor, modulations: Tensor, rope: Tensor, *, seam: Seam, site: Site) -> Tensor:
        *heads, inner = self.enter(joint, modulations, rope)
        attended = seam(site.attention("attn"), attend, *heads)
        return self.leave(joint, attended, inner, modulations)

    def enter(self, joint: Tensor, modulations: Tensor, rope: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What comes before the attention, and the feed-forward's inner tokens (B, L, 4 dim) beside it."""
        normed = modulated(joint, *parts_of(modulations, self.parts)[:2])
        return *self.attn.project(normed, rope), _gelu(self.proj_mlp(normed))

    def leave(self, joint: Tensor, attended: Tensor, inner: Tensor, modulations: Tensor) -> Tensor:
        """What comes behind both."""
        gate = parts_of(modulations, self.parts)[2]
        mixed = torch.cat((attended.flatten(2), inner), dim=2)
        return _within_half(torch.addcmul(joint, gate, self.proj_out(mixed)))
