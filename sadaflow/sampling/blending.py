"""A denoiser that repaints a part of a picture: outside the mask its x0 is the picture's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sadaflow.models import Seam

from ..device.indexing import taken
from .around import Around
from .denoiser import BranchDenoise, Rows


@dataclass(frozen=True)
class BlendedDenoiser(Around):
    """A denoiser whose x0 is that of another inside a mask, and that of a picture outside it.

    A state that starts outside the mask at alpha kept + sigma noise stays on that path under every solver that is exact
    for constant x0: the picture needs no blending after the steps. Solvers that combine v (PLMS on a network that
    predicts v) stray a little on the way.

    Attributes:
        inner: The denoiser of the whole picture.
        mask: Where the picture is repainted, bool (1 or B, 1, h, w); of a video which frames, bool (1, 1, T, 1, 1).
        kept: Latents of the picture, (1 or B, C, h, w), or (1 or B, C, 1, h, w).
    """

    inner: BranchDenoise
    mask: Tensor
    kept: Tensor

    @property
    def nodes(self) -> Any:
        """Points at which the network is evaluated, those of `inner`."""
        return getattr(self.inner, "nodes", None)

    @property
    def calibrations(self) -> Sequence[Any]:
        """What was measured of the network."""
        return getattr(self.inner, "calibrations", ())

    @property
    def has_negative(self) -> bool:
        """Whether there is a negative branch."""
        return self.inner.has_negative

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return blend(self.inner(x, step), self.mask, self.kept)

    def evaluate(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the samples `rows`, whose states are x (len(rows), C, h, w)."""
        return self._blend(self.inner.evaluate(x, step, rows, seam), rows)

    def evaluate_branches(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> tuple[Tensor, Tensor]:
        """The guided x0 and the x0 of the conditional branch; both as x."""
        guided, conditional = self.inner.evaluate_branches(x, step, rows, seam)
        return self._blend(guided, rows), self._blend(conditional, rows)

    def evaluate_conditional(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the conditional branch, which alone is evaluated."""
        return self._blend(self.inner.evaluate_conditional(x, step, rows, seam), rows)

    def _blend(self, x0: Tensor, rows: Rows) -> Tensor:
        return blend(x0, _rows(self.mask, rows), _rows(self.kept, rows))


def blend(x: Tensor, mask: Tensor, kept: Tensor) -> Tensor:
    """`x` inside the mask, and `kept` outside it; shapes as in `BlendedDenoiser`."""
    return torch.where(mask, x, kept)


def _rows(batch: Tensor, rows: Rows) -> Tensor:
    indices = list(rows)
    return batch if len(batch) == 1 or indices == list(range(len(batch))) else taken(batch, indices)
