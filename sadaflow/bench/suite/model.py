"""What a bench runs: samples, cases to compare on, and the settings that are compared."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sadaflow.solvers import Solver

from ...accelerators import ACCELERATORS, Accelerator
from ...accelerators.caching.base import check_fit
from ...compare.comparison import coarser
from .subjects import Subject

# The rivals that need no idea: both run the plain solver over fewer steps.
FEWER_STEPS: Final = "fewer-steps"  # on the grid that the solver has for so many
SUB_GRID: Final = "sub-grid"  # on points of the plain run's grid
RIVALS: Final = (FEWER_STEPS, SUB_GRID)


@dataclass(frozen=True)
class Sample:
    """A prompt and the seed of its start noise."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Case:
    """What fidelity is relative to: the plain run of a solver with so many steps on a model."""

    model: str
    solver: str
    steps: int
    guidance: float | None = None  # None: what the checkpoint recommends

    @property
    def title(self) -> str:
        guidance = "" if self.guidance is None else f", guidance {self.guidance:g}"
        return f"{self.model}, {self.solver}, {self.steps} steps{guidance}"


@dataclass(frozen=True)
class Setting:
    """One way of sampling: an accelerator or a rival by name, with its arguments. `method` is the front it lies on."""

    method: str
    accelerator: str | None = None  # None: plain
    arguments: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """The accelerator's name and arguments: unique within a case."""
        arguments = (f"{name}={_text(value)}" for name, value in self.arguments)
        return " ".join([self.accelerator or self.method, *arguments])

    def arrange(self, case: Case, subject: Subject) -> tuple[Solver, Accelerator | None]:
        """Solver and accelerator of this setting on a case; ValueError where they do not fit each other."""
        solver = subject.solver(case.solver, case.steps)
        if self.accelerator is None:
            return solver, None
        arguments = dict(self.arguments)
        if self.accelerator == FEWER_STEPS:
            return subject.solver(case.solver, arguments["steps"]), None
        if self.accelerator == SUB_GRID:
            return coarser(solver, arguments["steps"]), None
        accelerator = ACCELERATORS[self.accelerator](**arguments)
        try:
            check_fit(accelerator, solver, subject.shape, subject.network)
        except ValueError as error:
            raise ValueError(f"setting {self.label!r} on {case.title}: {error}") from error
        return solver, accelerator


PLAIN: Final = Setting("plain")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_text, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class Method:
    """Settings on one front. `steps` and `models` are those of the cases they run on, None for all."""

    name: str
    settings: tuple[Setting, ...]
    steps: tuple[int, ...] | None = None
    models: tuple[str, ...] | None = None

    def runs_on(self, case: Case) -> bool:
        return all(
            allowed is None or one in allowed for one, allowed in ((case.steps, self.steps), (case.model, self.models))
        )


@dataclass(frozen=True)
class Timing:
    """Which settings are timed beside the plain run: by label, at `steps`, on the first `samples` in batches.

    `settings` is empty where all are. With `always` a bench measures fidelity and then seconds.
    """

    settings: tuple[str, ...]
    steps: tuple[int, ...]
    rounds: int
    samples: int
    batch: int
    always: bool = False


@dataclass(frozen=True)
class Questions:
    """What the report reads off every front."""

    speedups: tuple[float, ...] = (2.0,)  # fidelity at the plain cost divided by these
    levels: tuple[float, ...] = ()  # cost at these fidelities, in dB
    rivals: tuple[str, ...] = ()  # cost at the fidelity of these settings, by label
    nearest: tuple[float, ...] = ()  # of every method the setting whose speed-up is nearest these


@dataclass(frozen=True)
class Suite:
    """All samples x cases x settings; `text` is the file it was read from, `given` tells that its samples were not."""

    name: str
    text: str
    samples: tuple[Sample, ...]
    cases: tuple[Case, ...]
    methods: tuple[Method, ...]
    batch: int
    questions: Questions
    timing: Timing | None
    given: bool = False
    metrics: tuple[str, ...] = ()  # beside PSNR, SSIM and latent error, by name

    def settings(self, case: Case) -> tuple[Setting, ...]:
        """Everything run on a case, the plain run first."""
        return (PLAIN, *(setting for method in self.methods if method.runs_on(case) for setting in method.settings))

    def batches(self) -> Iterator[tuple[Sample, ...]]:
        for start in range(0, len(self.samples), self.batch):
            yield self.samples[start : start + self.batch]

    @property
    def size(self) -> int:
        """Samples to make, all settings and cases counted."""
        return len(self.samples) * sum(len(self.settings(case)) for case in self.cases)


def frozen(arguments: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Keyword arguments out of a TOML table, its arrays as tuples."""
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in arguments.items())
