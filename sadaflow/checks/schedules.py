"""The schedules and grids on which accelerators are measured, with what a network on them predicts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch

from sadaflow.solvers import (
    Grid,
    Preconditioned,
    Prediction,
    RectifiedFlow,
    SeededNoise,
    Solver,
    draws_noise,
    make_solver,
)
from sadaflow.solvers.checks.problems import GRIDS, clean


@dataclass(frozen=True)
class Schedule:
    """A grid of any number of steps and the prediction type of networks on it.

    Attributes:
        grid: Makes a grid of n steps.
        prediction: What the network predicts.
    """

    grid: Callable[[int], Grid]
    prediction: Prediction


def _ends_clean(name: str) -> Callable[[int], Grid]:
    return lambda steps: clean(GRIDS[name](steps))


SCHEDULES: Final[Mapping[str, Schedule]] = {
    "flow": Schedule(_ends_clean("flow-uniform"), "flow"),
    "vp": Schedule(_ends_clean("vp-karras"), "eps"),
    "edm": Schedule(_ends_clean("edm-karras"), Preconditioned(1.0)),
}
"""Rectified flow, variance preserving (the table of Stable Diffusion) and EDM, to clean data."""

PURE_NOISE: Final = Schedule(
    lambda steps: Grid.from_t(RectifiedFlow(), torch.linspace(1, 0, steps + 1, dtype=torch.float64)), "flow"
)
"""Rectified flow from t = 1, where alpha is 0 and the log-SNR is -inf, as Flux samples."""


def solver_on(schedule: Schedule, name: str, steps: int, samples: int) -> Solver:
    """A registered solver on a schedule, with seeded noise if it draws any."""
    noise = {"noise": SeededNoise(tuple(range(samples)))} if draws_noise(name) else {}
    return make_solver(name, schedule.grid(steps), **noise)
