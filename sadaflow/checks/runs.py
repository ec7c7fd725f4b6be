"""Sampling runs on data whose denoiser is known exactly, recorded for the laws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from sadaflow.sampling.loop import sample
from sadaflow.sampling.results import Sampled, Step
from sadaflow.solvers import Solver

from ..accelerators.base import Accelerator, Mode
from .naive import Never
from .networks import NETWORKS, PLAIN, Plain, Seamed
from .problems import Modes
from .recording import Watched, drawn_state, seeded
from .schedules import SCHEDULES, solver_on

Factory = Callable[[], Accelerator]

SOLVER: Final = "dpmpp2m"
FLOW: Final = "flow"
SAMPLES: Final = 4
SHAPE: Final = (2, 6, 6)


def solver_of(name: str, steps: int, schedule: str = FLOW, samples: int = SAMPLES) -> Solver:
    """A registered solver on one of `SCHEDULES`, with seeded noise if it draws any."""
    return solver_on(SCHEDULES[schedule], name, steps, samples)


@dataclass(frozen=True)
class Case:
    """What is sampled.

    Attributes:
        solver: Name of the solver.
        network: Type of the network; None takes the first that is not refused.
        schedule: Name of the schedule.
        rows: Numbers of the samples; a sample has the same data and noise in any batch.
        shape: Shape of one sample.
        steps: Number of steps; None takes that of the examination.
        dtype: Dtype of the states.
        loud: Factors of the noise of each sample; None is 1 for all.
        shift: Added to the noise of every sample, times a fixed unit-normal tensor.
        verify: Whether each prediction is compared with that of the whole network.
    """

    solver: str = SOLVER
    network: str | None = None
    schedule: str = FLOW
    rows: Sequence[int] = tuple(range(SAMPLES))
    shape: Sequence[int] = SHAPE
    steps: int | None = None
    dtype: torch.dtype = torch.float64
    loud: Sequence[float] | None = None
    shift: float = 0.0
    verify: bool = False

    def noise(self) -> Tensor:
        """The initial noise, (B, ...)."""
        noise = torch.stack([_noise(row, self.shape) for row in self.rows])
        if self.loud is not None:
            noise = noise * torch.tensor(self.loud, dtype=noise.dtype).view(-1, *[1] * len(self.shape))
        if self.shift:
            noise = noise + self.shift * torch.stack([_noise(10_000 + row, self.shape) for row in self.rows])
        return noise.to(self.dtype)


@dataclass(frozen=True)
class Outcome:
    """One run and what was recorded of it.

    Attributes:
        sampled: Result of the run.
        notes: What the accelerator was given and what it returned.
        denoiser: The exact denoiser, with its record of evaluations.
        seeds_used: Whether a global random generator was used.
    """

    sampled: Sampled
    notes: Watched
    denoiser: Plain | Seamed
    seeds_used: bool

    @property
    def x(self) -> Tensor:
        """The final states, (B, ...)."""
        return self.sampled.x

    @property
    def modes(self) -> list[list[str]]:
        """`modes[sample][step]`."""
        return self.sampled.stats.modes

    @property
    def first_departure(self) -> int:
        """The first step at which a sample is not evaluated in full; the number of steps if there is none."""
        steps = [[mode == Mode.FULL for mode in modes] for modes in zip(*self.modes, strict=True)]
        return next((index for index, full in enumerate(steps) if not all(full)), len(steps))

    @property
    def saves(self) -> bool:
        """Whether a sample was not evaluated in full at some step."""
        return self.first_departure < len(self.modes[0])

    @property
    def apart(self) -> bool:
        """Whether samples decided differently at some step."""
        return len(set(map(tuple, self.modes))) > 1


@dataclass(frozen=True)
class Runs:
    """Sampling runs of one accelerator on the exact problem.

    Attributes:
        factory: Makes the accelerator.
        steps: Number of steps of the runs.
    """

    factory: Factory
    steps: int
    _made: dict[Any, Outcome] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def refusals(self) -> dict[str, str | None]:
        """For each type of network, the ValueError raised by the end of the first evaluation; None if it is sampled."""
        return {network: self.refusal(Case(network=network)) for network in NETWORKS}

    @property
    def networks(self) -> list[str]:
        """Types of network that the accelerator does not refuse."""
        return [network for network, reason in self.refusals.items() if reason is None]

    @property
    def quick(self) -> str:
        """The type of network that takes least time, of those that are not refused."""
        return self.networks[-1]

    def refusal(self, case: Case) -> str | None:
        """The ValueError that a run raises by the end of the first evaluation; None if it goes on."""
        steps: list[Step] = []

        def after(step: Step) -> None:
            steps.append(step)
            raise _EnoughSeen

        try:
            self.run(case, observer=after)
        except _EnoughSeen:
            return None
        except Exception as failure:  # the laws report other exceptions
            return str(failure) if isinstance(failure, ValueError) and not steps else None
        return None

    def solver(self, case: Case) -> Solver:
        """The solver of a case."""
        return solver_of(case.solver, case.steps or self.steps, case.schedule, len(case.rows))

    def denoiser(self, case: Case, solver: Solver) -> Plain | Seamed:
        """The exact denoiser of a case."""
        data, network = Modes.drawn(max(case.rows) + 1, case.shape).of(case.rows), case.network or self.networks[0]
        prediction = SCHEDULES[case.schedule].prediction
        if network == PLAIN:
            return Plain(solver, data, prediction)
        return Seamed(solver, data, network, prediction, case.verify)

    def sampled(self, case: Case, notes: Watched, **settings: Any) -> tuple[Sampled, Plain | Seamed]:
        """Samples a case under the present global seeds."""
        solver = self.solver(case)
        denoise = self.denoiser(case, solver)
        return sample(solver, denoise, case.noise(), notes, **settings), denoise

    def run(
        self,
        case: Case,
        accelerator: Accelerator | None = None,
        *,
        seed: int = 0,
        memory: bool = False,
        observer: Callable[[Step], None] | None = None,
    ) -> Outcome:
        """Samples the exact problem.

        Args:
            case: What is sampled.
            accelerator: The accelerator; None makes a new one.
            seed: Seed of the global random generators.
            memory: Whether to measure the memory that the run holds.
            observer: Called after every step.
        """
        with seeded(seed):
            notes = Watched(self.factory() if accelerator is None else accelerator, memory)
            before = drawn_state()
            sampled, denoise = self.sampled(case, notes, observer=observer)
            return Outcome(sampled, notes, denoise, drawn_state() != before)

    def made(self, case: Case) -> Outcome:
        """The run of a new accelerator, made once for all laws that use it."""
        return self._once(case, case, self.run)

    def plain(self, case: Case) -> Outcome:
        """Plain sampling, made once for all laws that use it."""
        return self._once(("plain", case), case, lambda case: self.run(case, Never()))

    def _once(self, key: Any, case: Case, make: Callable[[Case], Outcome]) -> Outcome:
        if key not in self._made:
            self._made[key] = make(case)
        return self._made[key]


class _EnoughSeen(Exception):
    """Ends a run after its first step."""


def _noise(row: int, shape: Sequence[int]) -> Tensor:
    """The noise of a sample, of shape (...)."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(row), dtype=torch.float64)
