"""FreqCa: low frequencies of a network's residual are reused, high ones forecast (arXiv 2510.08669)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from torch import Tensor

from sadaflow.models import Site
from sadaflow.solvers import Solver

from ..history import Array, lagrange
from ..predictors import Weights, hermite
from ..settings import check_fractions, check_numbers, check_whole
from .series import SeriesRun, regular_steps

_ROUNDING: Final = 1e-4  # of radii in float32, whose squares are whole numbers


@dataclass(frozen=True)
class FreqCa:
    """Computes the whole network at some steps; at the others low frequencies of its residual are the last ones.

    The high frequencies are forecast as by HiCache. Frequencies are those of the orthonormal DCT-II over the grid of
    tokens, low where their radius is at most `cut` of the largest. The residual is that of the stack of blocks, or of a
    U-Net's first shell. The defaults are those of the authors' code for Flux.1, which assumes square images.

    Memory: `order` + 1 tensors of the residual's size per sample and guidance branch, whatever the number of steps.

    Attributes:
        interval: Distance between full steps after the first ones.
        order: Degree of the series of the high frequencies.
        first: Number of full steps at the start.
        scale: Scale of its polynomials.
        cut: Radius of the low frequencies, as a fraction of the largest.
    """

    interval: int = 6
    order: int = 2
    first: int = 3
    scale: float = 0.71
    cut: float = 0.1

    def __post_init__(self) -> None:
        check_whole(self, interval=1, order=0, first=1)
        check_numbers(self, "scale", above=0)
        check_fractions(self, "cut")

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)

    def full_steps(self, steps: int) -> frozenset[int]:
        """Indices of those of `steps` steps that compute the whole network."""
        return regular_steps(steps, self.interval, self.first)


class _Run(SeriesRun):
    name = "freqca"

    def __init__(self, settings: FreqCa, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(settings.order + 1, solver, shape, seams, settings.full_steps)
        self.cut = settings.cut
        self.rule: Weights = partial(hermite, order=settings.order, scale=settings.scale)

    def forecast(self, step: int, rows: Sequence[int], site: Site) -> Tensor:
        ahead, last = self.weighted(self.rule, step, rows), self.weighted(held, step, rows)
        change = last - ahead
        if site.kind != "trunk":
            return ahead + low_frequencies(change, self.cut)
        axes, grid = len(site.size), change.unflatten(2, site.size).movedim(-1, 2)  # (R, branches, C, h, w)
        return ahead + low_frequencies(grid, self.cut, axes).movedim(2, -1).flatten(2, axes + 1)


def held(times: Array, at: float | Array) -> Array:
    """Weights of the newest value alone."""
    return lagrange(np.where(np.arange(times.shape[-1]) == 0, times, math.nan), at)


def low_frequencies(x: Tensor, cut: float, axes: int = 2) -> Tensor:
    """The part of x (..., h, w) whose frequencies have a radius of at most `cut` of the largest, by the DCT-II.

    The DCT-II is the Fourier transform of the values continued by their mirror image. So computed, it holds no product
    of matrices, which would be counted as one of the network's.

    Args:
        x: The values.
        cut: Fraction of the largest radius.
        axes: How many axes at the end are transformed: 3 for videos (..., T, h, w).
    """
    dims, sides = tuple(range(-axes, 0)), x.shape[-axes:]
    mirrored = x.to(torch.promote_types(x.dtype, torch.float32))
    for dim in dims:
        mirrored = torch.cat((mirrored, mirrored.flip(dim)), dim=dim)
    radius = torch.zeros((), device=x.device)
    for dim, side in zip(dims, sides, strict=True):
        along = torch.fft.fftfreq(2 * side, 0.5 / side, device=x.device)
        radius = torch.hypot(radius, along.view(-1, *[1] * (-dim - 1)))
    low = radius <= cut * math.hypot(*(side - 1 for side in sides)) + _ROUNDING
    filtered = torch.fft.ifftn(torch.fft.fftn(mirrored, dim=dims) * low, dim=dims).real
    return filtered[(..., *(slice(side) for side in sides))].to(x.dtype)
