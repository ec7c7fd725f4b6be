"""Outputs of the blocks of a stack."""

from collections.abc import Callable

from torch import Tensor

from ..seam import Seam, Site


def kept_by_block() -> tuple[Seam, list[Tensor]]:
    """Returns a seam that changes nothing, and the list to which it adds the image tokens (B, N, dim) of each block."""
    kept: list[Tensor] = []

    def keep(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        output = fn(hidden, *args)
        if site.kind == "block":
            kept.append(output[:, site.prefix :])
        return output

    return keep, kept
