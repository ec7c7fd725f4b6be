"""Tolerances under a prescribed cost: from a measured cost curve, or from the model of `Auto` where there is none."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..history import Array
from .budget import Forecast
from .calibration import Calibration
from .error_model import Gaps, Situation, Whole

TYPICAL_MEMORY: Final = 0.3
_TYPICAL_SPEED: Final = 0.7  # over `Gaps.pace`; that of tiny-flux is 0.6, that of tiny-sd 0.5 to 5 (docs/auto.md)

_CORRECTED: Final = 0.25  # part of a sample's excess; a half costs 0.5 dB at 2.5 and 3 times the speed (docs/fronts.md)


@dataclass(frozen=True)
class Cost:
    """How many evaluations are asked for, and what decides the tolerance that keeps to them.

    Attributes:
        mean: Evaluations to make per sample in the mean over samples; None if the tolerance is prescribed.
        most: Most evaluations of any sample, at least `least_evaluations`; None for any number.
        tolerance: The prescribed tolerance, or the one whose mean cost is `mean`.
        forecast: What tolerances cost, by which samples keep to `most`, and to `mean` if no cost curve was measured;
            None if neither is needed.
        calibration: The measured cost curve that `tolerance` was read off; None if there is none.
    """

    mean: float | None
    most: int | None
    tolerance: float
    forecast: Forecast | None
    calibration: Calibration | None = None

    def tolerances(self, gaps: Gaps, now: Situation, used: Whole) -> Array:
        """Tolerances for the gap that follows an evaluation, (R,).

        Args:
            gaps: The steps of the run.
            now: Where the samples stand.
            used: Number of evaluations that each has made, (R,).
        """
        chosen = np.full(len(used), self.tolerance)
        if self.calibration is not None and self.mean is not None:
            chosen = keeping_to(self.mean, self.calibration, now.steps, used)
        known = np.flatnonzero(np.isfinite(now.speed))
        if self.forecast is None or not len(known):
            return chosen
        part, made = now.of(known), used[known]
        motion = (part.steps, part.memory, part.speed / gaps.pace[part.steps])
        if self.calibration is None and self.mean is not None:
            # Early in a run a sample's motion says less about the rest of it, so its weight grows with the steps.
            own = self.forecast.tolerances(*motion, np.subtract(self.mean, made, dtype=np.float64))
            chosen[known] = self.tolerance * (own / self.tolerance) ** np.sqrt(part.steps / gaps.steps)
        if self.most is not None:
            least = self.forecast.tolerances(*motion, (self.most - made).astype(np.float64))
            chosen[known] = np.maximum(chosen[known], least)
        return chosen

    def shortest(self, gaps: Gaps, steps: Whole, used: Whole) -> Whole:
        """Shortest gaps after evaluations at `steps` that leave `most` within reach, (R,)."""
        if self.most is None:
            return np.zeros(len(steps), dtype=np.int64)
        reach = gaps.max_skips + 1
        # The last two steps are evaluated; each evaluation before them covers itself and a gap.
        ahead, left = gaps.steps - 3 - steps, self.most - used - 2
        needed = np.where(ahead > left * reach + gaps.max_skips, gaps.max_skips, ahead - left * reach)
        shortest: Whole = np.clip(needed, 0, np.maximum(np.minimum(gaps.max_skips, ahead), 0))
        return shortest


def keeping_to(mean: float, found: Calibration, steps: Whole, used: Whole) -> Array:
    """Tolerances that bring samples a part of the way to a mean cost, read off a measured cost curve: (R,).

    A sample that has made more evaluations than the measured ones had at its step is taken to stay as much more costly.
    It gets the tolerance under which they make fewer, by a quarter of its excess on a logarithmic scale; so hard
    samples keep to more evaluations than easy ones.

    Args:
        mean: Evaluations asked for.
        found: The calibration.
        steps: Index of each sample's last evaluation, (R,).
        used: Number of evaluations that it has made, (R,).
    """
    usual = mean * np.array(found.course)[steps]
    return found.tolerances_for(mean * (usual / used) ** _CORRECTED)


def fewest_evaluations(gaps: Gaps, warm_up: int) -> int:
    """Evaluations of a run under an unlimited tolerance, in which each gap may be one longer than the gap before."""
    unknown = int(np.isinf(gaps.log_snr).sum())  # a step at pure noise shows no motion
    step, length = max(warm_up, 2 + unknown) - 1, 0
    count = step + 1
    while step < gaps.steps - 1:
        length = max(min(gaps.max_skips, length + 1, gaps.steps - 3 - step), 0)
        step, count = step + 1 + length, count + 1
    return count


def least_evaluations(gaps: Gaps, warm_up: int) -> int:
    """Fewest evaluations of a run in which every gap may have the greatest length."""
    rest = gaps.steps - warm_up - 2 - gaps.max_skips
    return warm_up + 2 + math.ceil(max(rest, 0) / (gaps.max_skips + 1))


def typical_tolerance(gaps: Gaps, forecast: Forecast, warm_up: int, evaluations: float) -> float:
    """The tolerance under which a typical sample makes `evaluations`."""
    step, left = np.array([warm_up - 1]), np.array([evaluations - warm_up])
    return float(forecast.tolerances(step, np.array([TYPICAL_MEMORY]), np.array([_TYPICAL_SPEED]), left)[0])
