"""FasterCache's cache of guidance: its effect is reused in two bands of frequency (arXiv 2410.19355)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ...device.indexing import sent
from ..fitting import require_falling_times, require_steps
from ..history import Array
from ..settings import check_fractions, check_numbers
from .guidance import Guidance, GuidanceRun


@dataclass(frozen=True)
class FasterGuidance(Guidance):
    """Omits the negative branch at most of the later steps, and reuses the last effect of guidance, enhanced by band.

    Low frequencies of the difference between the guided output and that of the conditional branch are multiplied by
    `low` in the middle of the run, high ones by `high` towards its end. The defaults are those of Diffusers, whose
    bounds are timesteps out of 1000; here they are fractions of the steps. The published code multiplies the stored
    difference itself, so that the factors of consecutive steps multiply: `released`.

    Attributes:
        reuse: See `Reuse`; the prediction type of the difference.
        every: Every `every`-th evaluation has both branches.
        order: See `Guidance`; the authors hold the difference.
        start: Fraction of the steps before which all have both branches.
        end: Fraction of the steps from which all have both branches.
        low: Factor of the low frequencies.
        high: Factor of the high frequencies.
        low_from: Fraction of the steps from which on low frequencies are multiplied.
        low_until: Fraction until which they are.
        high_from: Fraction from which on high frequencies are multiplied.
        radius: Low frequencies are a square around 0 whose half side is this fraction of the shorter edge.
        released: Whether factors multiply over consecutive steps.
    """

    every: int = 5
    order: int = 0
    start: float = 0.36
    low: float = 1.1
    high: float = 1.1
    low_from: float = 0.1
    low_until: float = 0.9
    high_from: float = 0.7
    radius: float = 0.2
    released: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, "low", "high", least=0)
        check_fractions(self, "low_from", "low_until")
        check_fractions(self, "high_from")
        check_fractions(self, "radius")

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        require_falling_times(solver, "faster-guidance")
        require_steps(solver, "'faster-guidance'", self.order + 4)
        return _Run(self, solver, shape[0])


class _Run(GuidanceRun):
    def __init__(self, settings: FasterGuidance, solver: Solver, samples: int) -> None:
        super().__init__(settings, solver, samples)
        self.settings = settings
        self.factors: Array = np.ones((2, samples))
        """Factors of the low and of the high frequencies of each sample, at its last estimate."""

    def learn_guidance(self, step: int, rows: Sequence[int], difference: Tensor) -> None:
        super().learn_guidance(step, rows, difference)
        self.factors[:, list(rows)] = 1.0

    def guidance(self, step: int, rows: Sequence[int]) -> Tensor:
        difference, index = super().guidance(step, rows), list(rows)
        before = self.factors[:, index] if self.settings.released else 1.0
        self.factors[:, index] = np.array(self._enhancement(step))[:, None] * before
        low = low_square(difference, int(min(difference.shape[-2:]) * self.settings.radius))
        factors = sent(self.factors[:, index], difference.device, difference.dtype)
        of_low, of_high = factors.view(2, -1, *[1] * (difference.dim() - 1))
        return of_low * low + of_high * (difference - low)

    def _enhancement(self, step: int) -> tuple[float, float]:
        """Factors of low and high frequencies at a step."""
        settings, done = self.settings, step / len(self.nodes)
        low = settings.low if settings.low_from <= done < settings.low_until else 1.0
        return low, settings.high if done >= settings.high_from else 1.0


def low_square(x: Tensor, radius: int) -> Tensor:
    """The part of x (..., h, w) with frequencies from -radius to below radius along both axes."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    inside = [_below(count, radius, x.device) for count in x.shape[-2:]]
    spectrum = torch.fft.fft2(exact) * (inside[0][:, None] & inside[1])
    return torch.fft.ifft2(spectrum).real.to(x.dtype)


def _below(count: int, radius: int, device: torch.device) -> Tensor:
    """Which of the frequencies of `count` values lie from -radius to below radius."""
    frequency = torch.fft.fftfreq(count, 1 / count, device=device).round()
    return (frequency >= -radius) & (frequency < radius)
