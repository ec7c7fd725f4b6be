"""Runs a stack of blocks on the joint sequence of text and image tokens."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ..attention import attend, attend_some
from ..seam import Seam, Site


def run_blocks(
    blocks: Mapping[str, Callable[..., Tensor]],
    tokens: tuple[Tensor, Tensor],
    modulations: Sequence[Tensor],
    shared: Sequence[Tensor | None],
    seam: Seam,
    size: tuple[int, ...],
) -> Tensor:
    """Runs blocks one after the other, each a "block" site, and returns the image tokens (B, N, dim).

    Args:
        blocks: blocks by name; each is called with the joint sequence, its modulations, `shared`, seam= and site=.
        tokens: text tokens (B, L, dim) and image tokens (B, N, dim).
        modulations: (B, parts * dim) for each block.
        shared: further arguments of every block, of which the first has one entry per token.
        seam: called at each block.
        size: (h, w) of the image's grid of tokens, or (T, h, w) of a video's.
    """
    joint, length = torch.cat(tokens, dim=1), tokens[0].shape[1]
    for (name, block), own in zip(blocks.items(), modulations, strict=True):
        site = Site("block", name, 0, size, prefix=length, per_token=(1,) if shared else ())
        joint = seam(site, partial(block, seam=seam, site=site), joint, own, *shared)
    return joint[:, length:]


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
