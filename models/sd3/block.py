"""The joint block of Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206), with 3.5 medium's second attention."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..seam import Seam, Site
from ..streams.attention import DoubleAttention, Heads, ImageAttention
from ..streams.blocks import finished
from ..streams.feed_forward import FeedForward
from ..streams.modulation import Modulation, modulated, parts_of
from ..streams.stack import attended
from ..streams.style import Style


class JointBlock(nn.Module):
    """Text and image tokens attend together; each stream has its own norms, projections and feed-forward.

    Args:
        dim: width of the tokens.
        heads: number of heads.
        normed: whether queries and keys are RMS-normed per head.
        dual: whether the image tokens have a second attention, to each other alone.
        last: whether the text tokens are read for the last time, and do not change.
    """

    regions: ClassVar[tuple[str, ...]] = ("enter", "enter_second", "leave")

    def __init__(self, dim: int, heads: int, normed: bool, dual: bool, last: bool) -> None:
        super().__init__()
        style = Style(normed=normed)
        self.last = last
        self.image_parts, self.text_parts = 9 if dual else 6, 2 if last else 6
        self.norm1 = Modulation(dim, self.image_parts)
        self.norm1_context = Modulation(dim, self.text_parts)
        self.attn = DoubleAttention(dim, heads, style, reads_only=last)
        self.attn2 = ImageAttention(dim, heads, style) if dual else None
        self.ff = FeedForward(dim)
        self.ff_context = None if last else FeedForward(dim)

    @property
    def parts(self) -> int:
        """Number of modulation vectors: for the image, then for the text."""
        return self.image_parts + self.text_parts

    @property
    def modulations(self) -> list[Modulation]:
        """The layers that compute the block's modulations, in the order of `parts`."""
        return [self.norm1, self.norm1_context]

    def first_look(self, image: Tensor, modulations: Tensor) -> Tensor:
        """Computes the normed and modulated image tokens (B, N, dim) that attention reads."""
        return modulated(image, *parts_of(modulations, self.parts)[:2])

    def forward(self, joint: Tensor, modulations: Tensor, *, seam: Seam, site: Site) -> Tensor:
        """Runs the block.

        Args:
            joint: (B, L + N, dim), text tokens followed by image tokens.
            modulations: (B, parts * dim).
            seam: called at each attention.
            site: the block's site; its `prefix` is the number of text tokens.

        Returns:
            (B, L + N, dim).
        """
        length = site.prefix
        mixed = attended(seam, site.attention("attn"), self.enter(joint, modulations, length), None)
        second = None
        if self.attn2 is not None:
            own = site.attention("attn2")._replace(prefix=0)
            second = attended(seam, own, self.enter_second(joint, modulations, length), None)
        return self.leave(joint, mixed, second, modulations, length)

    def enter(self, joint: Tensor, modulations: Tensor, length: int) -> Heads:
        """Computes query, key and value; the first `length` tokens are text."""
        parts = parts_of(modulations, self.parts)
        shift, scale = parts[self.image_parts : self.image_parts + 2]
        if self.last:
            shift, scale = scale, shift
        text = modulated(joint[:, :length], shift, scale)
        return self.attn.project(text, modulated(joint[:, length:], *parts[:2]), None)

    def enter_second(self, joint: Tensor, modulations: Tensor, length: int) -> Heads:
        """Computes query, key and value of the image tokens' own attention."""
        assert self.attn2 is not None
        return self.attn2.project(modulated(joint[:, length:], *parts_of(modulations, self.parts)[6:8]))

    def leave(self, joint: Tensor, mixed: Tensor, second: Tensor | None, modulations: Tensor, length: int) -> Tensor:
        """Computes everything after the attentions, whose outputs are `mixed` and `second` (B, L, heads, head_dim)."""
        parts, mixed = parts_of(modulations, self.parts), mixed.flatten(2)
        image, change = joint[:, length:], self.attn.to_out[0](mixed[:, length:])
        if second is not None:
            assert self.attn2 is not None
            image = torch.addcmul(image, parts[8], self.attn2.to_out[0](second.flatten(2)))
        image = finished(image, change, parts[2:6], self.ff)
        text = joint[:, :length]
        if self.ff_context is not None:
            own = parts[self.image_parts + 2 :]
            text = finished(text, self.attn.to_add_out(mixed[:, :length]), own, self.ff_context)
        return torch.cat((text, image), dim=1)


class ImageBlock(nn.Module):
    """Image tokens attend to each other, without text: the block of ControlNets for 3.5 large.

    Args:
        dim: width of the tokens.
        heads: number of heads.
    """

    regions: ClassVar[tuple[str, ...]] = ("enter", "leave")
    parts: ClassVar[int] = 6
    """Number of modulation vectors."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = Modulation(dim, self.parts)
        self.attn = ImageAttention(dim, heads, Style(normed=False))
        self.ff = FeedForward(dim)

    @property
    def modulations(self) -> list[Modulation]:
        """The layer that computes the block's modulations."""
        return [self.norm1]

    def forward(self, image: Tensor, modulations: Tensor, *, seam: Seam, site: Site) -> Tensor:
        """Runs the block; arguments as in `JointBlock.forward`, for a sequence without text."""
        mixed = attended(seam, site.attention("attn"), self.enter(image, modulations), None)
        return self.leave(image, mixed, modulations)

    def enter(self, image: Tensor, modulations: Tensor) -> Heads:
        """Computes query, key and value."""
        return self.attn.project(modulated(image, *parts_of(modulations, self.parts)[:2]))

    def leave(self, image: Tensor, mixed: Tensor, modulations: Tensor) -> Tensor:
        """Computes everything after the attention."""
        change = self.attn.to_out[0](mixed.flatten(2))
        return finished(image, change, parts_of(modulations, self.parts)[2:], self.ff)
