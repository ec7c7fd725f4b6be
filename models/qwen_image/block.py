"""The block of Qwen-Image: text and image tokens attend together, as in MM-DiT (arXiv 2403.03206)."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..seam import Seam, Site
from ..streams.attention import DoubleAttention, Heads
from ..streams.blocks import clamp_half, finished
from ..streams.feed_forward import FeedForward
from ..streams.modulation import modulated, parts_of
from ..streams.stack import attended
from ..streams.style import Style

Vectors = tuple[Tensor, ...]


class QwenImageBlock(nn.Module):
    """Text tokens, and tokens of pictures, attend together; each stream has its own norms and feed-forward.

    The pictures are those to edit, if any, and then the one that is sampled.

    Args:
        dim: width of the tokens.
        heads: number of heads.
    """

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")
    parts: ClassVar[int] = 12
    """Number of modulation vectors: shift, scale and gate of attention, then feed-forward, for pictures and text."""
    still_parts: ClassVar[int] = 6
    """Number of modulation vectors of pictures to edit, if they have their own."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        # The activation, which has no weights, is applied once for all blocks.
        self.img_mod = nn.ModuleList([nn.Identity(), nn.Linear(dim, 6 * dim)])
        self.txt_mod = nn.ModuleList([nn.Identity(), nn.Linear(dim, 6 * dim)])
        self.attn = DoubleAttention(dim, heads, Style())
        self.img_mlp = FeedForward(dim)
        self.txt_mlp = FeedForward(dim)

    @property
    def modulations(self) -> list[nn.Module]:
        """The layers that compute the block's modulations from an activated embedding, in the order of `parts`."""
        return [self.img_mod[1], self.txt_mod[1]]

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
        still: int = 0,
        seam: Seam,
        site: Site,
    ) -> Tensor:
        """Runs the block.

        Args:
            joint: (B, L + still + N, dim), tokens of the text, of pictures to edit, and of the image.
            modulations: (B, parts * dim), or (B, (parts + still_parts) * dim).
            rope: (B, L + still + N, head_dim/2, 2), rotary table.
            mask: (B, L), bool: which text tokens are attended to; None for all.
            still: number of tokens of pictures to edit.
            seam: called at the attention.
            site: the block's site; its `prefix` is L + still.

        Returns:
            (B, L + still + N, dim).
        """
        heads = self.enter(joint, modulations, rope, site.prefix - still, still)
        mixed = attended(seam, site.attention("attn"), heads, mask)
        return self.leave(joint, mixed, modulations, site.prefix - still, still)

    def enter(self, joint: Tensor, modulations: Tensor, rope: Tensor, length: int, still: int) -> Heads:
        """Computes query, key and value; the first `length` tokens are text, and the next `still` to be edited."""
        text, pictures = joint[:, :length], joint[:, length:]
        picture_parts, text_parts = self._parts(modulations, still, pictures.shape[1])
        return self.attn.project(modulated(text, *text_parts[:2]), modulated(pictures, *picture_parts[:2]), rope)

    def leave(self, joint: Tensor, mixed: Tensor, modulations: Tensor, length: int, still: int) -> Tensor:
        """Computes everything after the attention, whose output is `mixed` (B, L + still + N, heads, head_dim)."""
        text, pictures, mixed = joint[:, :length], joint[:, length:], mixed.flatten(2)
        picture_parts, text_parts = self._parts(modulations, still, pictures.shape[1])
        pictures = finished(pictures, self.attn.to_out[0](mixed[:, length:]), picture_parts[2:], self.img_mlp)
        text = finished(text, self.attn.to_add_out(mixed[:, :length]), text_parts[2:], self.txt_mlp)
        return clamp_half(torch.cat((text, pictures), dim=1))

    def _parts(self, modulations: Tensor, still: int, count: int) -> tuple[Vectors, Vectors]:
        """Six vectors for the `count` tokens of pictures, of which the first `still` are edited, and six for text."""
        own = self.parts * self.attn.to_q.in_features
        parts = parts_of(modulations[:, :own], self.parts)
        pictures, text = parts[:6], parts[6:]
        if modulations.shape[-1] == own:
            return pictures, text
        edited = parts_of(modulations[:, own:], self.still_parts)
        pairs = zip(edited, pictures, strict=True)
        return tuple(_each_token(*pair, still, count - still) for pair in pairs), text


def _each_token(first: Tensor, second: Tensor, count: int, others: int) -> Tensor:
    """A vector (B, 1, dim) for each of `count` tokens, and a second for each of `others`: (B, count + others, dim)."""
    return torch.cat((first.expand(-1, count, -1), second.expand(-1, others, -1)), dim=1)
