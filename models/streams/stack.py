"""Runs a stack of blocks on the joint sequence of text and image tokens."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ..attention import attend, attend_some
from ..seam import Seam, Site
from .steering import Residuals


def run_blocks(
    blocks: Mapping[str, Callable[..., Tensor]],
    tokens: tuple[Tensor, Tensor],
    modulations: Sequence[Tensor],
    shared: Sequence[Tensor | None],
    seam: Seam,
    size: tuple[int, ...],
    residuals: Residuals | None = None,
) -> Tensor:
    """Runs blocks one after the other, each a "block" site, and returns the image tokens (B, N, dim).

    Args:
        blocks: blocks by name; each is called with the joint sequence, its modulations, `shared`, seam= and site=.
        tokens: text tokens (B, L, dim) and image tokens (B, N, dim).
        modulations: (B, parts * dim) for each block.
        shared: further arguments of every block, of which the first has one entry per token.
        seam: called at each block.
        size: (h, w) of the image's grid of tokens, or (T, h, w) of a video's.
        residuals: what ControlNets add to the image tokens; where something is added it is a block's last argument.
    """
    joint, length = torch.cat(tokens, dim=1), tokens[0].shape[1]
    added = [None] * len(blocks) if residuals is None else residuals.by_block(length)
    for (name, block), own, residual in zip(blocks.items(), modulations, added, strict=True):
        site = Site("block", name, 0, size, prefix=length, per_token=(1,) if shared else ())
        run = partial(block, seam=seam, site=site)
        if residual is None:
            joint = seam(site, run, joint, own, *shared)
        else:
            steered = site._replace(per_token=(*site.per_token, 1 + len(shared)))
            joint = seam(steered, partial(_then_added, run), joint, own, *shared, residual)
    return joint[:, length:]


def _then_added(block: Callable[..., Tensor], joint: Tensor, *args: Tensor) -> Tensor:
    """Runs a block, and adds the last argument."""
    return block(joint, *args[:-1]) + args[-1]


def attended(seam: Seam, site: Site, heads: Sequence[Tensor], mask: Tensor | None) -> Tensor:
    """Calls the attention site of a block.

    Args:
        seam: the seam.
        site: the site of the attention.
        heads: query, key and value, (B, L, heads, head_dim) each.
        mask: (B, P), which of the first P keys are attended to; None for all.

    Returns:
        (B, L, heads, head_dim).
    """
    return seam(site, attend, *heads) if mask is None else seam(site, attend_some, *heads, mask)
