"""Counts what runs launch and read on a simulated device, beyond what plain sampling does."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sadaflow.models import Seam, call_through
from sadaflow.sampling.loop import sample
from sadaflow.sampling.results import Sampled, Step

from ..accelerators.base import Accelerator, Mode
from ..device.simulated import Simulated, moved, shown, uncounted
from .naive import Never
from .networks import Plain, Seamed
from .runs import Case, Runs


@dataclass(frozen=True)
class Usage:
    """What a run does on a device per step, on average over its steps.

    Attributes:
        launches: Kernels launched.
        reads: Times that the host waits for numbers of the device, those of the check that x0 is finite included: they
            are there when others of the same step have been waited for.
        waits: Times that it copies numbers to the device in a way that waits for it.
        sampled: Result of the run.
    """

    launches: float
    reads: float
    waits: float
    sampled: Sampled

    @property
    def saves(self) -> bool:
        """Whether a sample was not evaluated in full at some step."""
        return any(mode != Mode.FULL for line in self.sampled.stats.modes for mode in line)


def used(runs: Runs, case: Case) -> Usage:
    """What a run of the accelerator does per step, of launches and waits what it adds to plain sampling of a case."""
    (own, sampled), (plain, _) = _counted(runs, case, runs.factory()), _counted(runs, case, Never())
    steps = len(sampled.stats.modes[0])
    launches, waits = ((own[kind] - plain[kind]) / steps for kind in ("launch", "wait"))
    return Usage(launches, own["read"] / steps, waits, sampled)


def _counted(runs: Runs, case: Case, accelerator: Accelerator) -> tuple[Counter[str], Sampled]:
    counter = Simulated()
    solver = runs.solver(case)
    denoise = _on_device(runs.denoiser(case, solver), counter)
    first: list[Counter[str]] = []

    def begun(step: Step) -> None:
        if not first:
            first.append(counter.counts.copy())  # what is computed once per run is not counted

    with counter:
        sampled = sample(solver, denoise, moved(case.noise()), accelerator, observer=begun)
    return Counter({kind: count - first[0][kind] for kind, count in counter.counts.items()}), sampled


def _on_device(denoise: Plain | Seamed, counter: Simulated) -> Any:
    if isinstance(denoise, Plain):
        return _Called(uncounted(denoise), denoise.prediction)
    return _Seamed(denoise, counter)


@dataclass
class _Called:
    call: Callable[..., Tensor]
    prediction: Any

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.call(x, step)


class _Seamed:
    """A denoiser that computes on the host, uncounted, and passes tensors of the device to the seam."""

    has_negative = True

    def __init__(self, inner: Seamed, counter: Simulated) -> None:
        self._inner, self._counter = inner, counter
        self.prediction = inner.prediction

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(x.shape[0]), call_through)

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        made: Tensor = uncounted(self._inner.evaluate)(x, step, rows, self._shown(seam))
        return made

    def evaluate_branches(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> tuple[Tensor, Tensor]:
        made: tuple[Tensor, Tensor] = uncounted(self._inner.evaluate_branches)(x, step, rows, self._shown(seam))
        return made

    def evaluate_conditional(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        made: Tensor = uncounted(self._inner.evaluate_conditional)(x, step, rows, self._shown(seam))
        return made

    def _shown(self, seam: Seam) -> Any:
        return call_through if seam is call_through else shown(seam, self._counter)
