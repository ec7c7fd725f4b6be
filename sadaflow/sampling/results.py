"""What sampling returns, and what observers of it see."""

from dataclasses import dataclass

from torch import Tensor

from ..accelerators.base import Mode
from .trace import Trace


@dataclass(frozen=True)
class Step:
    """One step as an observer sees it.

    Attributes:
        index: Index of the evaluation, from 0.
        total: Number of evaluations, the solver's `n_evals`.
        t: Time of the evaluation on the solver's schedule.
        x: States that the solver stepped from, (B, ...).
        x0: The network's x0, or the estimate of it, (B, ...).
        y: Velocities dx/dt of the probability-flow ODE at x and x0, (B, ...).
        modes: How each sample got its x0.
        x_next: States after the step, (B, ...), at which the network is evaluated next, or the final ones. None with an
            adaptive solver, which has not chosen its step yet.
    """

    index: int
    total: int
    t: float
    x: Tensor
    x0: Tensor
    y: Tensor
    modes: tuple[Mode, ...]
    x_next: Tensor | None = None


@dataclass(frozen=True)
class Stats:
    """Cost of a sampling run.

    Attributes:
        nfe: Number of function evaluations per sample. An evaluation that takes a part of the network from a cache
            counts as the share of the network's multiplications that it made, one on a part of the tokens as 1, and one
            of the conditional branch alone as one part of all branches of guidance: 1/2, or 1/3 of three.
        modes: `modes[sample][step]`, the value of the `Mode` of each step.
        seconds: Wall-clock seconds of the whole batch. Time spent recording a trace is excluded.
        controller_seconds: Seconds spent in the accelerator, outside the network and the solver; on CUDA, device time.
        network_seconds: Seconds spent in the network; on CUDA, device time.
        stopped_after: Number of steps that were made, if an observer stopped the run; else None.
    """

    nfe: list[float]
    modes: list[list[str]]
    seconds: float
    controller_seconds: float
    network_seconds: float
    stopped_after: int | None = None


@dataclass(frozen=True)
class Sampled:
    """Result of a sampling run.

    Attributes:
        x: States at the last grid point, (B, ...); the last x0 if an observer stopped the run.
        stats: Cost of the run.
        trace: The whole trajectory, if `sample` was called with `trace=True`.
    """

    x: Tensor
    stats: Stats
    trace: Trace | None = None
