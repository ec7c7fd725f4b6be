"""SeaCache: skip while Wiener-filtered latents hardly change (Chung et al., CVPR 2026, arXiv 2602.18993)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Point, Solver

from ...device.indexing import taken
from ...device.readback import Readback
from ..fitting import require_falling_times, require_steps
from ..history import NodeBuffer
from ..settings import check_choice, check_numbers, check_whole
from .base import Reuse, ReuseRun, mean_size

_LEAST = 1e-6  # smallest alpha and sigma in the filter, as published


@dataclass(frozen=True)
class SeaCache(Reuse):
    """Skips steps while the accumulated relative change of the filtered latents is below a threshold.

    The change at step i is mean |s_i - s_(i-1)| / mean |s_(i-1)| of a sample, with s = `filtered(x)`. A skipped step
    adds to its input the offset output - input of the last evaluation (`order` 0), or that offset extrapolated linearly
    in the step index through the last two (`order` 1). In the authors' code the offset is that of the stack of
    transformer blocks, here that of the whole network. The defaults are those of Diffusers (the authors use threshold
    0.3 for Flux.1).

    Attributes:
        reuse: See `Reuse`.
        threshold: Accumulated change from which on a step is evaluated.
        order: 0 or 1.
        first: Number of steps evaluated at the start.
        last: Number of steps evaluated at the end.
        max_skips: Most steps skipped in a row; 0: no bound.
        exponent: Decay of the data's power spectrum with frequency: 2 for images, 3 for video.
    """

    threshold: float = 0.25
    order: int = 1
    first: int = 1
    last: int = 1
    max_skips: int = 2
    exponent: float = 2.0

    def __post_init__(self) -> None:
        check_numbers(self, "threshold", least=0)
        check_numbers(self, "exponent", above=0)
        check_choice(self, "order", (0, 1))
        check_whole(self, first=1, last=0, max_skips=0)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        require_falling_times(solver, "seacache")
        who = f"'seacache' with first={self.first}, last={self.last}"
        require_steps(solver, who, self.first + self.last + 1)
        return _Run(self, solver, shape[0])


class _Run(ReuseRun):
    criterion = "accumulated change"

    def __init__(self, settings: SeaCache, solver: Solver, samples: int) -> None:
        super().__init__(solver, samples, settings.reuse, settings.threshold)
        self.exponent, self.max_skips = settings.exponent, settings.max_skips
        self.free = range(settings.first, solver.n_evals - settings.last)
        self.offsets = NodeBuffer(settings.order + 1, samples)
        self.indicator: Tensor | None = None
        self.sums = [0.0] * samples

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        states = taken(x, rows)
        return self.x0_of(self.network_input(states, step) + self.offsets.at(rows, step), states, step)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if self.evaluated:
            offset = self.output(x, x0, step) - self.network_input(x, step)
            self.offsets.push(self.evaluated, step, taken(offset, self.evaluated))
        self.values = [math.nan] * self.samples
        if step + 1 < len(self.nodes):
            changes = self._changes(step + 1, x, x_next)
            if step + 1 in self.free:
                self.values = [total + change for total, change in zip(self.sums, changes, strict=True)]
        skip = [
            value < self.threshold and not (self.max_skips and skips >= self.max_skips)
            for value, skips in zip(self.values, self.skips, strict=True)
        ]
        self.sums = [value if skipped else 0.0 for value, skipped in zip(self.values, skip, strict=True)]
        self.decide(skip)

    def edited(self, step: int, rows: Sequence[int]) -> None:
        super().edited(step, rows)
        self.offsets.forget(rows)
        for row in rows:
            self.sums[row] = 0.0

    def _changes(self, step: int, before: Tensor, x: Tensor) -> list[float]:
        """Relative change of the indicator from the previous step, with states `before`, to `step`, with states x."""
        if self.indicator is None:
            self.indicator = filtered(before, self.nodes[step - 1], self.exponent)
        old, self.indicator = self.indicator, filtered(x, self.nodes[step], self.exponent)
        return Readback(mean_size(self.indicator - old) / mean_size(old)).read()


def filtered(x: Tensor, point: Point, exponent: float) -> Tensor:
    """Removes noise from states by a Wiener filter (the paper's eq. 7), in float32 or wider.

    Along each axis after the channels, data of power P = 1 / |f|^exponent at frequency f is observed as alpha x0 +
    sigma eps; its best linear estimate has the gain alpha P / (alpha^2 P + sigma^2). The product of the gains over the
    axes is scaled to mean 1.

    Args:
        x: States, (B, C, ...).
        point: alpha and sigma of the states.
        exponent: Decay of the data's power spectrum.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    axes = range(2, x.dim())
    if not axes:
        return x
    alpha, sigma = max(point.alpha, _LEAST), max(point.sigma, _LEAST)
    gain = torch.ones((), dtype=x.dtype, device=x.device)
    for axis in axes:
        frequency = torch.fft.fftfreq(x.shape[axis], dtype=x.dtype, device=x.device).abs()
        along = alpha / (alpha**2 + sigma**2 * frequency**exponent)
        gain = gain * along.view(-1, *[1] * (x.dim() - 1 - axis))
    spectrum = torch.fft.fftn(x, dim=tuple(axes))
    return torch.fft.ifftn(spectrum * (gain / gain.mean()), dim=tuple(axes)).real
