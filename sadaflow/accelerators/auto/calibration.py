"""Numbers measured of a checkpoint with a solver, which `Auto` uses in place of its formulas."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Final, Self

import numpy as np

from sadaflow.solvers import Solver

from ..history import Array
from .plans import Fork

FORMAT: Final = 2
"""Version of the fields; another one is refused."""

NEAR: Final = 1.5
"""Largest ratio of two scales of guidance for which one calibration serves."""

_NOT_SETTINGS: Final = ("grid", "noise")
_APART: Final = 1e-4  # largest difference of log-SNR between grids that count as equal


@dataclass(frozen=True)
class Calibration:
    """What was measured of one network on the steps of one solver.

    Attributes:
        weights: Digest of the network's weights (`sadaflow.loading.digest`).
        solver: The solver without its grid and noise, from `describe_solver`.
        log_snr: log-SNR of each of the N evaluations; -inf at pure noise.
        guidance: Scale of classifier-free guidance; 1 without.
        gains: Change of the final latents per error of x0 at each evaluation, root mean square over samples, (N,).
        settings: The settings of `Auto` under which `evaluations` was measured, by name.
        tolerances: Rising tolerances of the cost curve, (M,).
        evaluations: Mean number of evaluations under each of them, (M,).
        course: Share of a run's evaluations that are made up to each step and with it, in the mean under the tolerance
            whose cost is nearest to half of the steps, (N,).
        samples: Number of samples that the cost curve is the mean of.
        forks: Plans for costs at which they keep more than error control, by rising number of evaluations.

    Raises:
        ValueError: If the numbers do not fit each other.
    """

    weights: str
    solver: str
    log_snr: tuple[float, ...]
    guidance: float
    gains: tuple[float, ...]
    settings: Mapping[str, Any]
    tolerances: tuple[float, ...]
    evaluations: tuple[float, ...]
    course: tuple[float, ...]
    samples: int
    forks: tuple[Fork, ...] = ()

    def __post_init__(self) -> None:
        if len(self.gains) != len(self.log_snr):
            raise ValueError(f"a calibration of {len(self.log_snr)} steps has {len(self.gains)} gains")
        if len(self.course) != len(self.log_snr) or not all(0 < share <= 1 for share in self.course):
            raise ValueError(f"the course of a calibration must be a share of each of the {len(self.log_snr)} steps")
        if not all(math.isfinite(gain) and gain > 0 for gain in self.gains):
            raise ValueError(f"the gains of a calibration must be finite and above 0, got {self.gains}")
        if len(self.tolerances) != len(self.evaluations) or not self.tolerances:
            raise ValueError(f"a cost curve of {len(self.tolerances)} tolerances has {len(self.evaluations)} costs")
        rising = all(a < b for a, b in zip(self.tolerances, self.tolerances[1:], strict=False))
        falling = all(a >= b for a, b in zip(self.evaluations, self.evaluations[1:], strict=False))
        if not (rising and falling and self.tolerances[0] > 0):
            raise ValueError("in a cost curve tolerances must rise from above 0, and evaluations must not")
        if any(len(plan.targets[0]) != len(self.log_snr) for fork in self.forks for plan in fork.plans):
            raise ValueError(f"the plans of a calibration must be those of {len(self.log_snr)} steps")

    def misfit(self, solver: Solver) -> str | None:
        """Why the calibration cannot be used with a solver; None if it can."""
        if self.solver != (own := describe_solver(solver)):
            return f"it was made with {self.solver}, not with {own}"
        if len(self.log_snr) != solver.n_evals:
            return f"it was made with {len(self.log_snr)} steps, not with {solver.n_evals}"
        for step, (made, node) in enumerate(zip(self.log_snr, solver.nodes, strict=True)):
            if made != node.log_snr and not abs(made - node.log_snr) <= _APART:
                return f"its grid has log-SNR {made:.5g} at step {step}, the solver's {node.log_snr:.5g}"
        return None

    def covers(self, evaluations: float, settings: Mapping[str, Any]) -> bool:
        """Whether the cost curve reaches a number of evaluations, and was measured under these settings."""
        return self.settings == settings and self.evaluations[-1] <= evaluations <= len(self.log_snr)

    def tolerance_for(self, evaluations: float) -> float:
        """The lowest tolerance whose mean cost is at most `evaluations`, by interpolation in its logarithm.

        Above the curve, whose lowest tolerances evaluate nearly every step, it is the lowest; below, the highest.
        """
        return float(self.tolerances_for(np.array([evaluations]))[0])

    def tolerances_for(self, evaluations: Array) -> Array:
        """`tolerance_for` of several numbers of evaluations, (R,)."""
        costs, tolerances = np.array(self.evaluations), np.array(self.tolerances)
        after = np.searchsorted(-costs, -evaluations)  # the first cost that is not above
        low, high = np.maximum(after - 1, 0), np.minimum(after, len(costs) - 1)
        fall = costs[low] - costs[high]
        part = np.divide(costs[low] - evaluations, fall, out=np.zeros(len(after)), where=fall > 0)
        found: Array = tolerances[low] * (tolerances[high] / tolerances[low]) ** part
        return found

    @property
    def least(self) -> float:
        """The fewest evaluations, as a mean over samples, that were measured."""
        return float(min(self.forks[0].counts)) if self.forks else self.evaluations[-1]

    def planned(self, settings: Mapping[str, Any]) -> bool:
        """Whether there are plans, and they were fitted under these settings of `Auto`."""
        return bool(self.forks) and self.settings == settings

    def fork_for(self, evaluations: float, settings: Mapping[str, Any]) -> Fork | None:
        """The plans for a number of evaluations; None if there are none, or they were fitted under other settings."""
        if not self.planned(settings) or evaluations < self.least:
            return None
        last = self.forks[-1]
        if evaluations > (last.middle + max(last.counts)) / 2 and evaluations >= self.evaluations[-1]:
            return None  # error control reaches so low, and keeps more than plans of about as many
        return min(self.forks, key=lambda fork: abs(math.log(fork.middle / evaluations)))

    @classmethod
    def from_json(cls, content: Mapping[str, Any], label: str) -> Self:
        """Reads what `to_json` made.

        Args:
            content: The JSON object.
            label: Where it is from, for errors.

        Raises:
            ValueError: If the format is another one, or a field is missing, unknown or malformed.
        """
        if (found := content.get("format")) != FORMAT:
            raise ValueError(
                f"{label}: the calibration has format {found!r}, this version reads {FORMAT}; make it again "
                "with `sadaflow calibrate`"
            )
        names = {field.name for field in fields(cls)} - ({"forks"} - set(content))
        if unlike := names.symmetric_difference(content) - {"format"}:
            raise ValueError(f"{label}: the calibration lacks or has unknown fields: {', '.join(sorted(unlike))}")
        try:
            return cls(**{name: _read(name, content[name]) for name in names})
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise ValueError(f"{label}: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON can hold them, with the version of the format."""
        content = {"format": FORMAT, **asdict(self)}
        if self.forks:
            content["forks"] = [fork.to_json() for fork in self.forks]
        else:
            del content["forks"]  # as calibrations were before there were plans
        content["log_snr"] = [value if math.isfinite(value) else None for value in self.log_snr]
        return content


def describe_solver(solver: Solver) -> str:
    """Name of a solver's class with the settings that are not its defaults, without grid and noise."""
    if not is_dataclass(solver):
        return type(solver).__name__
    own = [
        f"{field.name}={value!r}"
        for field in fields(solver)
        if field.name not in _NOT_SETTINGS and (value := getattr(solver, field.name)) != field.default
    ]
    return f"{type(solver).__name__}({', '.join(own)})"


def near(calibrations: Iterable[Calibration], guidance: float) -> list[Calibration]:
    """The calibrations whose guidance differs by at most a factor of `NEAR`, the nearest first.

    A calibration with guidance is not taken without, nor the other way round.
    """

    def apart(found: Calibration) -> float:
        if (found.guidance > 1) != (guidance > 1):
            return math.inf
        return abs(math.log(max(found.guidance, 1.0) / max(guidance, 1.0)))

    return sorted((found for found in calibrations if apart(found) <= math.log(NEAR)), key=apart)


def _read(name: str, value: Any) -> Any:
    """The value of a field from JSON; raises ValueError or TypeError if it is malformed."""
    if name == "log_snr":
        return tuple(-math.inf if number is None else float(number) for number in value)
    if name in ("gains", "tolerances", "evaluations", "course"):
        return tuple(map(float, value))
    if name == "forks":
        return tuple(map(Fork.from_json, value))
    if name == "settings":
        return {str(key): tuple(held) if isinstance(held, list) else held for key, held in value.items()}
    return float(value) if name == "guidance" else int(value) if name == "samples" else str(value)
