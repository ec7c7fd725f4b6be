"""Transformer blocks with double and single streams (after MM-DiT, Esser et al. 2024, arXiv 2403.03206).

Both operate on the joint sequence (B, L + N, dim) of L text tokens followed by N image tokens, with modulations (B,
parts * dim) computed from an embedding of the conditioning, and the rotary table (B, L + N, head_dim/2, 2) of all
tokens.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..seam import Seam, Site
from .attention import DoubleAttention, Heads, SingleAttention
from .feed_forward import feed_forward, gelu
from .modulation import Modulation, modulated, parts_of
from .stack import attended
from .style import Style

DEFAULT = Style()
_HALF_MAX = torch.finfo(torch.float16).max


def clamp_half(hidden: Tensor) -> Tensor:
    """Clamps float16 activations, which overflow otherwise, to the largest float16, as the published code does."""
    return hidden.clamp(-_HALF_MAX, _HALF_MAX) if hidden.dtype == torch.float16 else hidden


class DoubleBlock(nn.Module):
    """Text and image tokens attend together; each stream has its own norms, projections and feed-forward.

    Args:
        dim: width of the tokens.
        heads: number of heads.
        style: see `Style`.
    """

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")
    parts: ClassVar[int] = 12
    """Number of modulation vectors: shift, scale and gate of attention, then feed-forward, for image and text."""

    def __init__(self, dim: int, heads: int, style: Style = DEFAULT) -> None:
        super().__init__()
        self.style = style
        if style.modulated:
            self.norm1 = Modulation(dim, 6)
            self.norm1_context = Modulation(dim, 6)
        self.attn = DoubleAttention(dim, heads, style)
        self.ff = feed_forward(dim, style)
        self.ff_context = feed_forward(dim, style)

    @property
    def modulations(self) -> list[Modulation]:
        """The layers that compute the block's modulations, in the order of `parts`, if it has any."""
        return [self.norm1, self.norm1_context] if self.style.modulated else []

    def first_look(self, image: Tensor, modulations: Tensor) -> Tensor:
        """Computes the normed and modulated image tokens (B, N, dim) that attention reads."""
        return modulated(image, *parts_of(modulations, self.parts)[:2])

    def forward(
        self,
        joint: Tensor,
        modulations: Tensor,
        rope: Tensor,
        mask: Tensor | None = None,
        *,
        edited: int = 0,
        seam: Seam,
        site: Site,
    ) -> Tensor:
        """Runs the block.

        Args:
            joint: (B, L + N, dim), text tokens followed by image tokens.
            modulations: (B, parts * dim).
            rope: (B, L + N, head_dim/2, 2), rotary table.
            mask: (B, L), bool: which text tokens are attended to; None for all.
            edited: how many of the N image tokens are of a picture to edit; they come first.
            seam: called at the attention.
            site: the block's site; its `prefix` is L + edited.

        Returns:
            (B, L + N, dim).
        """
        length = site.prefix - edited
        heads = self.enter(joint, modulations, rope, length)
        mixed = attended(seam, site.attention("attn"), heads, mask)
        return self.leave(joint, mixed, modulations, length)

    def enter(self, joint: Tensor, modulations: Tensor, rope: Tensor, length: int) -> Heads:
        """Computes query, key and value; the first `length` tokens are text."""
        image_parts, text_parts = self._parts(modulations)
        text, image = joint[:, :length], joint[:, length:]
        return self.attn.project(modulated(text, *text_parts[:2]), modulated(image, *image_parts[:2]), rope)

    def leave(self, joint: Tensor, attended: Tensor, modulations: Tensor, length: int) -> Tensor:
        """Computes everything after the attention."""
        image_parts, text_parts = self._parts(modulations)
        text, image, attended = joint[:, :length], joint[:, length:], attended.flatten(2)
        image = finished(image, self.attn.to_out[0](attended[:, length:]), image_parts[2:], self.ff)
        text = finished(text, self.attn.to_add_out(attended[:, :length]), text_parts[2:], self.ff_context)
        return torch.cat((clamp_half(text), image), dim=1)

    def _parts(self, modulations: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Splits the modulations into six vectors for the image and six for the text."""
        parts = parts_of(modulations, self.parts)
        return parts[:6], parts[6:]


def finished(hidden: Tensor, change: Tensor, parts: tuple[Tensor, ...], feed_forward: nn.Module) -> Tensor:
    """Applies a stream's gated attention residual, then its modulated and gated feed-forward."""
    attention_gate, shift, scale, gate = parts
    hidden = torch.addcmul(hidden, attention_gate, change)
    return torch.addcmul(hidden, gate, feed_forward(modulated(hidden, shift, scale)))


class SingleBlock(nn.Module):
    """Attention and feed-forward in parallel on the joint sequence, with the same weights for text and image.

    Args:
        dim: width of the tokens.
        heads: number of heads.
        style: see `Style`.
    """

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")
    parts: ClassVar[int] = 3
    """Number of modulation vectors: shift, scale and gate."""

    def __init__(self, dim: int, heads: int, style: Style = DEFAULT) -> None:
        super().__init__()
        self.style = style
        if style.modulated:
            self.norm = Modulation(dim, 3)
        self.proj_mlp = nn.Linear(dim, 4 * dim)
        self.proj_out = nn.Linear(5 * dim, dim)
        self.attn = SingleAttention(dim, heads, style)

    @property
    def modulations(self) -> list[Modulation]:
        """The layer that computes the block's modulations, if it has one."""
        return [self.norm] if self.style.modulated else []

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
        """Computes query, key and value, and the feed-forward's inner activations (B, L, 4 dim)."""
        normed = modulated(joint, *parts_of(modulations, self.parts)[:2])
        return *self.attn.project(normed, rope), gelu(self.proj_mlp(normed))

    def leave(self, joint: Tensor, attended: Tensor, inner: Tensor, modulations: Tensor) -> Tensor:
        """Computes everything after the attention."""
        gate = parts_of(modulations, self.parts)[2]
        mixed = torch.cat((attended.flatten(2), inner), dim=2)
        return clamp_half(torch.addcmul(joint, gate, self.proj_out(mixed)))
