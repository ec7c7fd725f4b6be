"""What some accelerators have to know of a network beforehand, recorded from plain runs."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sadaflow.models import Seam, Site
from sadaflow.solvers import Solver

from ..accelerators.base import Mode, Run
from ..accelerators.caching.base import Outermost, relative_change
from .denoiser import RowDenoise
from .loop import sample

Look = Callable[[Site, Tensor, Sequence[Tensor | None], Tensor], None]
"""What to do with a site, its hidden, its args and its output."""


def magcache_ratios(solver: Solver, denoise: RowDenoise, noise: Tensor) -> tuple[float, ...]:
    """`MagCache.ratios` of a network on this solver's grid, from a plain run on `noise` (B, ...).

    Ratio i is the mean over positions, samples and branches of |R_i| / |R_(i-1)|, R_i the residual output - input of
    the stack of blocks, or of the outermost shell, at evaluation i, its norms over channels; the first is 1. One prompt
    is enough for the authors (arXiv 2506.09045). Raises ValueError for a network without such a site.
    """
    norms: list[Tensor] = []
    ratios = [1.0]

    def look(site: Site, hidden: Tensor, args: Sequence[Tensor | None], output: Tensor) -> None:
        norms.append((output - hidden).norm(dim=-1 if site.kind == "trunk" else 1))
        if len(norms) > 1:
            ratios.append(float((norms[-1] / norms.pop(0)).mean()))

    _observe(solver, denoise, noise, look, met=norms)
    return tuple(ratios)


def teacache_pairs(solver: Solver, denoise: RowDenoise, noise: Tensor) -> list[tuple[float, float]]:
    """What `teacache_coefficients` fits: the relative L1 changes from evaluation to evaluation of a plain run, of
    TeaCache's indicator and of the stack's residual, for every sample in `noise` (B, ...).

    Raises ValueError for a network without a trunk that offers a probe.
    """
    past: list[tuple[Tensor, Tensor]] = []
    pairs: list[tuple[float, float]] = []

    def look(site: Site, hidden: Tensor, args: Sequence[Tensor | None], output: Tensor) -> None:
        if site.probe is None:
            return
        past.append((site.probe(hidden, *args), output - hidden))
        if len(past) > 1:
            before, samples = past.pop(0), noise.shape[0]
            changes = [relative_change(new, old, samples) for new, old in zip(past[0], before, strict=True)]
            pairs.extend(zip(*changes, strict=True))

    _observe(solver, denoise, noise, look, met=past)
    return pairs


def teacache_coefficients(pairs: Sequence[tuple[float, float]], degree: int = 4) -> tuple[float, ...]:
    """`TeaCache.coefficients` (highest power first): least squares over (indicator, residual) changes, as the authors
    fit theirs to 70 prompts. ValueError for fewer pairs than coefficients."""
    if len(pairs) <= degree:
        raise ValueError(f"a polynomial of degree {degree} needs more than {degree} pairs, got {len(pairs)}")
    inputs, outputs = np.array(pairs, dtype=np.float64).T
    return tuple(float(number) for number in np.polyfit(inputs, outputs, degree))


def _observe(solver: Solver, denoise: RowDenoise, noise: Tensor, look: Look, met: Sequence[object]) -> None:
    """A plain run that looks at the network's outermost site; ValueError where `met` is empty after it."""
    sample(solver, denoise, noise, _Observed(look))
    if not met:
        raise ValueError("there is nothing to record: the network has no trunk or shell of the kind that is looked for")


class _Observed(Run):
    """A plain run, begun as an accelerator, that shows what goes on at the outermost site."""

    def __init__(self, look: Look, samples: int = 0) -> None:
        super().__init__(samples)
        self.look = look

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Observed":
        return _Observed(self.look, shape[0])

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def handle(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            output = fn(hidden, *args)
            self.look(site, hidden, args, output)
            return output

        return Outermost(handle)
