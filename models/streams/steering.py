"""What ControlNets add to the image tokens after each block of a transformer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..seam import Seam, Site


class Residuals(NamedTuple):
    """What is added to the image tokens after each block.

    Attributes:
        tensors: (B, N, dim) each.
        blocks: for each block the index of its tensor; None if nothing is added.
    """

    tensors: Sequence[Tensor]
    blocks: Sequence[int | None]

    def at(self, positions: Tensor) -> "Residuals":
        """Returns those of some image tokens, at `positions` (B, n, 1) of them."""
        return Residuals([tensor.take_along_dim(positions, dim=1) for tensor in self.tensors], self.blocks)

    def by_block(self, length: int) -> list[Tensor | None]:
        """Returns for each block what is added to `length` tokens before the image, zero, and to the image tokens."""
        padded = [F.pad(tensor, (0, 0, length, 0)) for tensor in self.tensors]
        return [None if index is None else padded[index] for index in self.blocks]


@dataclass(frozen=True)
class Steering:
    """The ControlNets of one evaluation.

    Attributes:
        residuals: maps `inputs`, or the same rows of each of them, to what is added.
        inputs: (B, ...) each.
    """

    residuals: Callable[..., Residuals]
    inputs: tuple[Tensor | None, ...]


def call_trunk(
    seam: Seam,
    site: Site,
    trunk: Callable[..., Tensor],
    image: Tensor,
    args: tuple[Tensor | None, ...],
    steering: Steering | None,
) -> Tensor:
    """Calls the site of a trunk, inside which the ControlNets run: a seam that leaves out the trunk leaves them out.

    `args` are then followed by the positions (B, N, 1) of the image tokens, and by what the ControlNets read of all of
    them. Of the residuals each token gets the one of its position, whichever tokens a seam selects.

    Args:
        seam: the seam.
        site: the trunk's site.
        trunk: the trunk, which takes `residuals=`.
        image: image tokens (B, N, dim).
        args: further arguments of the trunk.
        steering: the ControlNets; None if there are none.

    Returns:
        Image tokens (B, N, dim).
    """
    if steering is None:
        return seam(site, trunk, image, *args)
    own, residuals = len(args), steering.residuals

    def steered(image: Tensor, *given: Tensor | None) -> Tensor:
        positions, *inputs = given[own:]
        assert positions is not None
        return trunk(image, *given[:own], residuals=residuals(*inputs).at(positions))

    positions = torch.arange(image.shape[1], device=image.device).expand(image.shape[0], -1)[..., None]
    site = site._replace(per_token=(*site.per_token, own))
    return seam(site, steered, image, *args, positions, *steering.inputs)
