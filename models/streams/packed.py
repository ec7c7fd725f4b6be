"""The part that Flux.1 and its relatives share: packed latents, double-stream blocks, then single-stream blocks."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from ..rope import after_text, rotary_table
from ..seam import Seam, Site, call_through
from .blocks import DoubleBlock, SingleBlock
from .modulation import modulated, parts_of
from .stack import run_blocks
from .steering import Residuals, Steering, call_trunk
from .style import Style

PATCH = 2
"""Latent positions along each side of an image token."""


class PackedStreams(nn.Module):
    """Blocks on 2 x 2 patches of latents x (B, C, h, w), which a transformer and its ControlNets have in common.

    Subclasses call `add_streams`.

    Args:
        dim: width of the tokens.
        axes: channels per head rotated by each axis (text, row, column).
    """

    def __init__(self, dim: int, axes: tuple[int, int, int]) -> None:
        super().__init__()
        self.dim, self.axes = dim, axes

    def add_streams(self, channels: tuple[int, int], heads: int, layers: tuple[int, int], style: Style) -> None:
        """Adds the embedders of tokens, and the blocks.

        Args:
            channels: width of the text states, and channels of an input token.
            heads: number of heads.
            layers: number of double-stream and of single-stream blocks.
            style: see `Style`.
        """
        dim, (context, read) = self.dim, channels
        self.context_embedder = nn.Linear(context, dim)
        self.x_embedder = nn.Linear(read, dim)
        self.transformer_blocks = nn.ModuleList([DoubleBlock(dim, heads, style) for _ in range(layers[0])])
        self.single_transformer_blocks = nn.ModuleList([SingleBlock(dim, heads, style) for _ in range(layers[1])])

    @property
    def _blocks(self) -> dict[str, DoubleBlock | SingleBlock]:
        """All blocks by name, in order."""
        stacks = ("transformer_blocks", "single_transformer_blocks")
        return {f"{stack}.{index}": block for stack in stacks for index, block in enumerate(getattr(self, stack))}

    def _embedded(self, latents: Tensor, index: int = 0) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Embeds latents (B, C, h, w) as tokens (B, N, dim); also returns their rotary table, and the size of the grid.

        Args:
            latents: the latents.
            index: coordinate of the tokens along the first axis.
        """
        height, width = latents.shape[-2:]
        size, tokens = (height // PATCH, width // PATCH), self.x_embedder(self.packed(latents))
        return tokens, self._rope(size, tokens, index), size

    def packed(self, latents: Tensor) -> Tensor:
        """Packs latents (B, C, h, w) as patches (B, N, 4 C); raises ValueError if h or w is odd."""
        height, width = latents.shape[-2:]
        if height % PATCH or width % PATCH:
            name = type(self).__name__
            raise ValueError(f"latents have {height}x{width} positions; {name} needs multiples of {PATCH}")
        return rearrange(latents, "b c (h p) (w q) -> b (h w) (c p q)", p=PATCH, q=PATCH)

    def _rope(self, size: tuple[int, int], tokens: Tensor, index: int = 0) -> Tensor:
        """Returns the rotary table (B, N, head_dim/2, 2) of the tokens (B, N, dim) of a grid of that size."""
        table = rotary_table if torch.compiler.is_compiling() else _known_rotary_table
        return table(size, self.axes, tokens.device, index).expand(len(tokens), -1, -1, -1)

    def _trunk(
        self,
        image: Tensor,
        text: Tensor,
        modulations: Tensor,
        rope: Tensor,
        mask: Tensor | None = None,
        edited: Tensor | None = None,
        rope_before: Tensor | None = None,
        *,
        seam: Seam,
        size: tuple[int, int],
        residuals: Residuals | None = None,
    ) -> Tensor:
        """Runs all blocks on the joint sequence and returns the image tokens (B, N, dim)."""
        blocks: dict[str, Callable[..., Tensor]] = {**self._blocks}
        own = modulations.split([block.parts * self.dim for block in self._blocks.values()], dim=-1)
        if edited is None or rope_before is None:
            rope = after_text(rope, text.shape[1])
        else:
            text, rope = torch.cat((text, edited), dim=1), torch.cat((rope_before, rope), dim=1)
            for name, block in self._blocks.items():
                if isinstance(block, DoubleBlock):
                    blocks[name] = partial(block, edited=edited.shape[1])
        shared = (rope,) if mask is None else (rope, mask)
        return run_blocks(blocks, (text, image), own, shared, seam, size, residuals)


class PackedTransformer(PackedStreams):
    """Transformer on 2 x 2 patches of latents x (B, C, h, w), whose subclasses embed prompt and time.

    Sites: the stack of blocks is a "trunk" with `fn(image, text, modulations, rope)`, which maps image tokens (B, N,
    dim) to image tokens, given text tokens (B, L, dim), the modulations of all blocks (B, width) and the rotary table
    (B, N, head_dim/2, 2) of the image tokens; a mask (B, L) of text tokens follows if some are padding. A seam may drop
    image tokens if it gathers the rows of `rope` alike (`Site.per_token`); the remaining tokens keep their positions.
    With a picture to edit its M tokens (B, M, dim) follow the mask, or None, and then the rotary table (B, L + M,
    head_dim/2, 2) of all tokens before the image. ControlNets run inside the trunk, and what they read follows (see
    `call_trunk`). Inside it, each block is a "block" on the joint sequence (text and picture to edit, `Site.prefix`
    tokens, then the image) with `fn(joint, modulations, rope)`, its own modulations and the rotary table of all tokens.
    Its attention is an "attention", with keys already rotated.

    Subclasses call `add_streams` and set `proj_out`, which gives output tokens.

    Args:
        dim: width of the tokens.
        axes: channels per head rotated by each axis (text, row, column).
    """

    sites: ClassVar[frozenset[str]] = frozenset({"trunk", "block", "attention"})
    """Kinds of sites in this network."""
    scale_first: ClassVar[bool] = True
    """Whether the last modulation's scale precedes its shift."""

    proj_out: nn.Linear

    def evaluate(
        self,
        x: Tensor,
        time: Tensor,
        given: Mapping[str, Tensor],
        seam: Seam = call_through,
        steering: Steering | None = None,
    ) -> Tensor:
        """Computes the prediction at x.

        Args:
            x: (B, C, h, w), h and w even.
            time: (1 or B, width), one step of `prepare_times`.
            given: output of `prepare`, with the rows of x: "text" (B, L, dim), and "mask" (B, L) if some text tokens
                are not attended to; "beside" (B, channels, h, w) if the network reads more than x; "edited" (B, C, h',
                w') if it reads a picture to edit.
            seam: called at each site.
            steering: the ControlNets, if there are any.

        Returns:
            The flow (B, C, h, w).

        Raises:
            ValueError: if h or w, or a side of the picture to edit, is odd.
        """
        image, rope, size = self._embedded(torch.cat((x, given["beside"]), dim=1) if "beside" in given else x)
        time, text, dim = time.expand(x.shape[0], -1), given["text"], self.dim
        modulations, last = time.split((time.shape[-1] - 2 * dim, 2 * dim), dim=-1)
        trunk = partial(self._trunk, seam=seam, size=size)
        site = Site("trunk", "trunk", 0, size, per_token=(2,), per_prefix=(0,), probe=self._first_look)
        further: tuple[Tensor | None, ...] = (given["mask"],) if "mask" in given else ()
        if "edited" in given:
            edited, own, _ = self._embedded(given["edited"], index=1)
            further = (given.get("mask"), edited, after_text(own, text.shape[1]))
            site = site._replace(per_prefix=(0, 5))
        image = call_trunk(seam, site, trunk, image, (text, modulations, rope, *further), steering)
        first, second = parts_of(last, 2)
        scale, shift = (first, second) if self.scale_first else (second, first)
        tokens = self.proj_out(modulated(image, shift, scale))
        return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=size[0], p=PATCH, q=PATCH)

    def _first_look(self, image: Tensor, text: Tensor, modulations: Tensor, *_: Tensor | None) -> Tensor:
        """Computes the normed and modulated image tokens (B, N, dim) that the first block's attention reads."""
        first = next(iter(self._blocks.values()))
        return first.first_look(image, modulations[:, : first.parts * self.dim])


_known_rotary_table = lru_cache(maxsize=8)(rotary_table)
