"""A suite: samples, cases, and the settings that are compared on them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sadaflow.solvers import Solver

from ...accelerators import Accelerator, make_accelerator
from ...accelerators.caching.base import check_fit
from ...compare.comparison import coarser_grid
from .subject import Subject

# Naive baselines: fewer steps without an accelerator.
FEWER_STEPS: Final = "fewer-steps"  # of the case's solver or another, on its own grid for that number of steps
SUB_GRID: Final = "sub-grid"  # on a subset of the points of the plain run's grid
RIVALS: Final = (FEWER_STEPS, SUB_GRID)


@dataclass(frozen=True)
class Sample:
    """A prompt, or the name of a class, and the seed of the initial noise."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Case:
    """A plain run, relative to which fidelity is measured.

    Attributes:
        model: Hub id, folder, embedded checkpoint, "BASE + NET" with a ControlNet, or an analytic problem.
        solver: Name of the solver, with settings if there are any.
        steps: Number of steps.
        guidance: Guidance scale. None: what the checkpoint recommends.
    """

    model: str
    solver: str
    steps: int
    guidance: float | None = None

    @property
    def title(self) -> str:
        guidance = "" if self.guidance is None else f", guidance {self.guidance:g}"
        return f"{self.model}, {self.solver}, {self.steps} steps{guidance}"


@dataclass(frozen=True)
class Setting:
    """A way of sampling: an accelerator or a rival with its arguments.

    Attributes:
        method: Name of the front that the setting belongs to.
        accelerator: Name of the accelerator or rival, with settings if there are any. None: the plain run.
        arguments: Further settings.
    """

    method: str
    accelerator: str | None = None
    arguments: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """Name and arguments of the accelerator, unique within a case."""
        arguments = (f"{name}={_text(value)}" for name, value in self.arguments)
        return " ".join([self.accelerator or self.method, *arguments])

    def arrange(self, case: Case, subject: Subject) -> tuple[Solver, Accelerator | None]:
        """Builds solver and accelerator for a case.

        Raises:
            ValueError: If the accelerator does not support the solver or the network.
        """
        solver = subject.solver(case.solver, case.steps)
        if self.accelerator is None:
            return solver, None
        arguments = dict(self.arguments)
        if self.accelerator == FEWER_STEPS:
            return subject.solver(arguments.get("solver", case.solver), arguments["steps"]), None
        if self.accelerator == SUB_GRID:
            return subject.solver(case.solver, case.steps, coarser_grid(solver.grid, arguments["steps"])), None
        accelerator = make_accelerator(self.accelerator, **arguments)
        try:
            check_fit(accelerator, solver, subject.shape, subject.network, subject.calibrations)
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
    """The settings on one front.

    Attributes:
        name: Name of the front.
        settings: Settings to run.
        steps: Numbers of steps of the cases that they run on. None: all.
        models: Models of the cases that they run on. None: all.
    """

    name: str
    settings: tuple[Setting, ...]
    steps: tuple[int, ...] | None = None
    models: tuple[str, ...] | None = None

    def runs_on(self, case: Case) -> bool:
        """Returns whether the settings run on a case."""
        return (self.steps is None or case.steps in self.steps) and (self.models is None or case.model in self.models)


@dataclass(frozen=True)
class Timing:
    """What is timed beside the plain run.

    Attributes:
        settings: Labels of the settings. Empty: all.
        steps: Numbers of steps of the cases to time.
        rounds: Measured rounds.
        samples: The first so many samples of the suite are timed.
        batch: Samples per batch.
        always: Whether a bench measures fidelity and then seconds, without being asked for seconds.
    """

    settings: tuple[str, ...]
    steps: tuple[int, ...]
    rounds: int
    samples: int
    batch: int
    always: bool = False


@dataclass(frozen=True)
class Questions:
    """What the report reads off every front.

    Attributes:
        speedups: Fidelity at the plain run's cost divided by these.
        levels: Cost at these fidelities, in dB.
        rivals: Cost at the fidelity of these settings, by label.
        nearest: For each of these, the setting of every method with the nearest speed-up.
    """

    speedups: tuple[float, ...] = (2.0,)
    levels: tuple[float, ...] = ()
    rivals: tuple[str, ...] = ()
    nearest: tuple[float, ...] = ()


@dataclass(frozen=True)
class Suite:
    """All samples x cases x settings.

    Attributes:
        name: Name of the suite.
        text: Contents of its file.
        samples: Prompts with seeds.
        cases: Plain runs to compare with.
        methods: Settings by front.
        batch: Samples per batch.
        questions: What the report reads off the fronts.
        timing: What is timed. None: nothing.
        given: Whether the samples come from a prompt file instead of the suite's text.
        metrics: Names of metrics beside PSNR, SSIM and latent error.
        own: Samples in place of `samples`, by model.
        dimensions: Height, width and num_frames of the samples by name, where they are not the checkpoint's own.
    """

    name: str
    text: str
    samples: tuple[Sample, ...]
    cases: tuple[Case, ...]
    methods: tuple[Method, ...]
    batch: int
    questions: Questions
    timing: Timing | None
    given: bool = False
    metrics: tuple[str, ...] = ()
    dimensions: tuple[tuple[str, int], ...] = ()
    own: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)

    def samples_of(self, case: Case) -> tuple[Sample, ...]:
        """Returns the samples of a case."""
        return self.own.get(case.model, self.samples)

    def settings(self, case: Case) -> tuple[Setting, ...]:
        """Returns the settings that run on a case, the plain run first."""
        return (PLAIN, *(setting for method in self.methods if method.runs_on(case) for setting in method.settings))

    def batches(self, case: Case) -> Iterator[tuple[Sample, ...]]:
        """Yields the samples of a case in batches."""
        samples = self.samples_of(case)
        for start in range(0, len(samples), self.batch):
            yield samples[start : start + self.batch]

    @property
    def size(self) -> int:
        """Number of samples to generate, over all settings and cases."""
        return sum(len(self.samples_of(case)) * len(self.settings(case)) for case in self.cases)


def frozen(arguments: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Returns a TOML table as keyword arguments, arrays as tuples."""
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in arguments.items())
