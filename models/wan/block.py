"""The block of Wan: self-attention over space and time, cross-attention to the text, feed-forward."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..attention import attend
from ..norm import RMSNorm
from ..rope import rotate
from ..seam import Seam, Site
from ..streams.feed_forward import FeedForward
from ..streams.modulation import modulated
from .config import WanConfig

Heads = tuple[Tensor, Tensor, Tensor]


class _Attention(nn.Module):
    """Base of both attentions, whose queries and keys are RMS-normed over all heads together."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.num_attention_heads
        self.norm_q, self.norm_k = RMSNorm(dim, config.eps), RMSNorm(dim, config.eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def _split(self, projected: Tensor) -> Tensor:
        """Splits projected tokens (B, L, dim) into heads (B, L, heads, head_dim)."""
        return projected.unflatten(-1, (self.heads, -1))


class SelfAttention(_Attention):
    """Attention of the tokens of a video to each other."""

    def project(self, hidden: Tensor, rope: Tensor) -> Heads:
        """Computes rotated query, rotated key and value (B, N, heads, head_dim) of tokens (B, N, dim)."""
        query, key = self.norm_q(self.to_q(hidden)), self.norm_k(self.to_k(hidden))
        return rotate(self._split(query), rope), rotate(self._split(key), rope), self._split(self.to_v(hidden))


class CrossAttention(_Attention):
    """Attention to the text, and added to it that to the tokens of an image if the network reads one."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__(config)
        if config.added_kv_proj_dim is not None:
            self.add_k_proj, self.add_v_proj = (nn.Linear(config.added_kv_proj_dim, config.dim) for _ in range(2))
            self.norm_added_k = RMSNorm(config.dim, config.eps)

    def forward(self, hidden: Tensor, text: Tensor, image: Tensor | None = None) -> Tensor:
        """Computes the attention's output.

        Args:
            hidden: (B, N, dim).
            text: (B, L, dim).
            image: (B, M, dim), tokens of the image; None for networks that read none.

        Returns:
            (B, N, dim).
        """
        query = self._split(self.norm_q(self.to_q(hidden)))
        mixed = attend(query, self._split(self.norm_k(self.to_k(text))), self._split(self.to_v(text)))
        if image is not None:
            key, value = self.norm_added_k(self.add_k_proj(image)), self.add_v_proj(image)
            mixed = mixed + attend(query, self._split(key), self._split(value))
        return self.to_out[0](mixed.flatten(2))


class WanBlock(nn.Module):
    """One block. Modulation and residuals are computed in float32, as published.

    Args:
        config: the architecture.
    """

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.attn1 = SelfAttention(config)
        self.attn2 = CrossAttention(config)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.eps)
        self.ffn = FeedForward(config.dim, config.ffn_dim)
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 6, config.dim))

    def first_look(self, hidden: Tensor, time: Tensor) -> Tensor:
        """Computes the normed and modulated tokens (B, N, dim) that self-attention reads."""
        return self._modulated(hidden, *self._parts(time, 0, 2))

    def forward(
        self, hidden: Tensor, text: Tensor, time: Tensor, rope: Tensor, image: Tensor | None, *, seam: Seam, site: Site
    ) -> Tensor:
        """Runs the block.

        Args:
            hidden: (B, N, dim).
            text: (B, L, dim), tokens of the text.
            time: (B, 6 dim), or (B, N, 6 dim) if tokens have times of their own.
            rope: (B, N, head_dim/2, 2), rotary table.
            image: (B, M, dim), tokens of an image; None for networks that read none.
            seam: called at the self-attention.
            site: the block's site.

        Returns:
            (B, N, dim).
        """
        attended = seam(site.attention("attn1"), attend, *self.enter(hidden, time, rope))
        return self.leave(hidden, attended, text, time, image)

    def enter(self, hidden: Tensor, time: Tensor, rope: Tensor) -> Heads:
        """Computes query, key and value of self-attention."""
        return self.attn1.project(self.first_look(hidden, time), rope)

    def leave(self, hidden: Tensor, attended: Tensor, text: Tensor, time: Tensor, image: Tensor | None) -> Tensor:
        """Computes everything after self-attention, whose output is `attended` (B, N, heads, head_dim)."""
        (attention_gate,) = self._parts(time, 2, 3)
        hidden = _added(hidden, attention_gate, self.attn1.to_out[0](attended.flatten(2)))
        normed = self.norm2(hidden.to(self.norm2.weight.dtype)).to(hidden.dtype)
        hidden = hidden + self.attn2(normed, text, image)
        shift, scale, gate = self._parts(time, 3, 6)
        return _added(hidden, gate, self.ffn(self._modulated(hidden, shift, scale)))

    def _parts(self, time: Tensor, begin: int, end: int) -> tuple[Tensor, ...]:
        """Of shift, scale and gate of attention, then of the feed-forward, those from `begin` to `end`.

        Returns:
            (B, 1 or N, dim) each. Those of tokens with times of their own are as large as the tokens in float32.
        """
        table = self.scale_shift_table[:, begin:end]
        rows = (time if time.dim() == 3 else time[:, None]).unflatten(-1, (6, -1))[:, :, begin:end]
        return (rows.to(table.dtype) + table).unbind(2)

    def _modulated(self, hidden: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return modulated(hidden.to(shift.dtype), shift, scale, eps=self.eps).to(hidden.dtype)


def _added(hidden: Tensor, gate: Tensor, change: Tensor) -> Tensor:
    """Adds a gated residual in the gate's dtype."""
    return torch.addcmul(hidden.to(gate.dtype), gate, change.to(gate.dtype)).to(hidden.dtype)
