"""Records from plain runs the numbers that some accelerators need of a network."""

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
"""Called with a site, its hidden input, its args and its output."""


def magcache_ratios(solver: Solver, denoise: RowDenoise, noise: Tensor) -> tuple[float, ...]:
    """Records `MagCache.ratios` of a network on a solver's grid from a plain run.

    Ratio i is the mean over positions, samples and branches of |R_i| / |R_(i-1)|, where R_i is the residual output -
    input of the stack of blocks, or of the outermost shell, at evaluation i, and |.| its norm over channels. The
    authors use one prompt (arXiv 2506.09045).

    Args:
        solver: The solver, with its grid.
        denoise: The denoiser.
        noise: Unit-normal noise, (B, ...).

    Returns:
        One ratio per evaluation; the first is 1.

    Raises:
        ValueError: if the network has neither a trunk nor a shell.
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
    """Records the pairs that `teacache_coefficients` fits, from a plain run.

    Args:
        solver: The solver, with its grid.
        denoise: The denoiser.
        noise: Unit-normal noise, (B, ...).

    Returns:
        Relative L1 changes from evaluation to evaluation, for every sample: of TeaCache's indicator, and of the
        residual of the stack of blocks.

    Raises:
        ValueError: if the network has no trunk with a probe.
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
    """Fits `TeaCache.coefficients` by least squares, as the authors do for 70 prompts.

    Args:
        pairs: Changes of the indicator and of the residual, from `teacache_pairs`.
        degree: Degree of the polynomial.

    Returns:
        Coefficients, highest power first.

    Raises:
        ValueError: if there are fewer pairs than coefficients.
    """
    if len(pairs) <= degree:
        raise ValueError(f"a polynomial of degree {degree} needs more than {degree} pairs, got {len(pairs)}")
    inputs, outputs = np.array(pairs, dtype=np.float64).T
    return tuple(float(number) for number in np.polyfit(inputs, outputs, degree))


def _observe(solver: Solver, denoise: RowDenoise, noise: Tensor, look: Look, met: Sequence[object]) -> None:
    """Samples plainly and calls `look` at the outermost site. Raises ValueError if `met` is empty afterwards."""
    sample(solver, denoise, noise, _Observed(look))
    if not met:
        raise ValueError("nothing to record: the network has no trunk or shell that this calibration can use")


class _Observed(Run):
    """An accelerator and its run in one: samples plainly, and calls `look` at the outermost site."""

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
