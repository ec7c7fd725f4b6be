"""Sampling runs on data whose denoiser is known exactly, recorded for the laws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Final, cast

import torch
from torch import Tensor

from sadaflow.sampling.loop import sample
from sadaflow.sampling.results import Sampled, Step
from sadaflow.solvers import Grid, GridSolver, SeededNoise, Solver, draws_noise, make_solver
from sadaflow.solvers.checks.problems import GRIDS, clean

from ..accelerators.base import Accelerator, Mode, Run
from .networks import NETWORKS, PLAIN, Plain, Seamed
from .problems import Modes
from .recording import Watched, drawn_state, seeded

Factory = Callable[[], Accelerator]

SOLVER: Final = "dpmpp2m"
SAMPLES: Final = 4
SHAPE: Final = (2, 6, 6)


def solver_of(name: str, steps: int, grid: str = "flow-uniform", samples: int = SAMPLES) -> Solver:
    """A registered solver on a clean grid, with seeded noise if it draws any."""
    noise = {"noise": SeededNoise(tuple(range(samples)))} if draws_noise(name) else {}
    return make_solver(name, clean(GRIDS[grid](steps)), **noise)


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
    def modes(self) -> list[list[str]]:
        """`modes[sample][step]`."""
        return self.sampled.stats.modes

    @property
    def first_departure(self) -> int:
        """The first step at which a sample is not evaluated in full; the number of steps if there is none."""
        steps = [[mode == Mode.FULL for mode in modes] for modes in zip(*self.modes, strict=True)]
        return next((index for index, full in enumerate(steps) if not all(full)), len(steps))


@dataclass(frozen=True)
class Runs:
    """Sampling runs of one accelerator on the exact problem.

    Attributes:
        factory: Makes the accelerator.
        steps: Number of steps of the runs.
    """

    factory: Factory
    steps: int
    _made: dict[tuple[str, str, bool], Outcome] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def refusals(self) -> dict[str, str | None]:
        """For each type of network, the ValueError raised by the end of the first evaluation; None if it is sampled."""
        return {network: self._refusal(network=network) for network in NETWORKS}

    @property
    def networks(self) -> list[str]:
        """Types of network that the accelerator does not refuse."""
        return [network for network, reason in self.refusals.items() if reason is None]

    def _refusal(self, **settings: Any) -> str | None:
        steps: list[Step] = []
        try:
            self.run(observer=steps.append, **settings)
        except Exception as failure:  # the laws report other exceptions
            return str(failure) if isinstance(failure, ValueError) and not steps else None
        return None

    def run(
        self,
        accelerator: Accelerator | None = None,
        *,
        network: str | None = None,
        rows: Sequence[int] = tuple(range(SAMPLES)),
        shape: Sequence[int] = SHAPE,
        solver: Solver | str = SOLVER,
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
        memory: bool = False,
        observer: Callable[[Step], None] | None = None,
    ) -> Outcome:
        """Samples the exact problem.

        Args:
            accelerator: The accelerator; None makes a new one.
            network: Type of the network; None takes the first that is not refused.
            rows: Numbers of the samples; a sample has the same data and noise in any batch.
            shape: Shape of one sample.
            solver: A solver, or the name of one.
            dtype: Dtype of the states.
            seed: Seed of the global random generators.
            memory: Whether to measure the memory that the run holds.
            observer: Called after every step.
        """
        solver = solver_of(solver, self.steps) if isinstance(solver, str) else solver
        count = max(rows) + 1
        data = Modes.drawn(count, shape).of(rows)
        noise = torch.stack([_noise(row, shape) for row in rows]).to(dtype)
        network = self.networks[0] if network is None else network
        denoise = Plain(solver, data) if network == PLAIN else Seamed(solver, data, network)
        with seeded(seed):
            notes = Watched(self.factory() if accelerator is None else accelerator, memory)
            before = drawn_state()
            sampled = sample(solver, denoise, noise, notes, observer=observer)
            return Outcome(sampled, notes, denoise, drawn_state() != before)

    def plain(self, solver: Solver | str, network: str | None = None) -> Outcome:
        """Samples without skipping anything."""
        return self.run(Never(), solver=solver, network=network)

    def made(self, name: str, network: str | None = None, plain: bool = False) -> Outcome:
        """The run of the accelerator, or the plain one, made once for all laws that use it."""
        key = name, self.networks[0] if network is None else network, plain
        if key not in self._made:
            self._made[key] = self.plain(*key[:2]) if plain else self.run(solver=key[0], network=key[1])
        return self._made[key]


class Never:
    """An accelerator that skips nothing."""

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        """Starts a run that evaluates every step."""
        return Run(shape[0])


@cache
def plain_end(name: str, steps: int, network: str) -> Tensor:
    """The final states of plain sampling, with which accelerators are compared."""
    return Runs(Never, steps).plain(name, network).sampled.x


@cache
def coarse_error(few: int, steps: int, network: str) -> float:
    """Root-mean-square change of the final states if Euler's method takes `few` of the grid's steps."""
    whole = cast(GridSolver, solver_of("euler", steps))
    points = torch.linspace(0, steps, few + 1, dtype=torch.float64).round().long()
    part = replace(whole, grid=Grid.from_t(whole.grid.schedule, whole.grid.t[points]))
    coarse = Runs(Never, steps).plain(part, network)
    return rms(coarse.sampled.x - plain_end("euler", steps, network))


def rms(difference: Tensor) -> float:
    """Root mean square of all numbers."""
    return float(difference.square().mean().sqrt())


def _noise(row: int, shape: Sequence[int]) -> Tensor:
    """The noise of a sample, of shape (...)."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(row), dtype=torch.float64)
