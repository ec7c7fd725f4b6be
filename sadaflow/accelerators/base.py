"""What the sampling loop asks of an accelerator: per step and sample, evaluate the network or estimate its answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sadaflow.models import Seam, call_through
from sadaflow.solvers import Prediction, Solver, State

WITHOUT = "accelerator=None (--accelerate none) samples without one"


class Mode(StrEnum):
    """How one sample gets its x0 at one step."""

    FULL = "full"  # the whole network
    TOKENS = "tokens"  # the network on a part of the tokens
    CACHED = "cached"  # a part of the network, the rest taken from a cache
    CONDITIONAL = "conditional"  # the conditional branch alone, what guidance adds to it estimated
    STEPWISE = "stepwise"  # no network: SADA's step-wise estimate
    MULTISTEP = "multistep"  # no network: SADA's multistep-wise (Lagrange) estimate
    EXTRAPOLATED = "extrapolated"  # no network: polynomial in log-SNR through true evaluations
    REUSED = "reused"  # no network: its past outputs, held or carried on

    @property
    def evaluates(self) -> bool:
        """Whether the network runs."""
        return self in (Mode.FULL, Mode.TOKENS, Mode.CACHED, Mode.CONDITIONAL)


class Run(Protocol):
    """An accelerator at work on one batch; all its state lives and dies here."""

    def plan(self, step: int) -> Sequence[Mode]:
        """The mode of every sample at `step`."""
        ...

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        """x0 (len(rows), ...) of the samples `rows`, without the network; x (B, ...) is the state of all."""
        ...

    def revise(self, state: State, x0: Tensor) -> State:
        """The state to step from, now that x0 (B, ...) is known at `state`: the same, or a corrected one."""
        ...

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        """Learn what happened at `step`: state, x0, velocity y = dx/dt, and the state after it, all (B, ...)."""
        ...

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        """The seam for evaluating the samples `rows` in `mode`; called only where the denoiser takes one."""
        ...


@dataclass(frozen=True)
class Explanation:
    """What one step was planned by: a number per sample, compared with a threshold."""

    name: str
    threshold: float
    """Samples at or below it skip the step, unless another rule forbids."""
    values: Sequence[float]
    """One per sample; nan where the schedule decided."""
    tokens: Sequence[Tensor | None]
    """Per sample, bool (h, w) on the network's grid of tokens, True where computed; None unless pruned."""


@runtime_checkable
class ExplainedRun(Protocol):
    """A run that tells what it went by; optional beside `Run`, and asked only where a trace is kept."""

    def explain(self, step: int) -> Explanation:
        """Of the plan for `step`; called once between `revise` and `observe` of that step."""
        ...


@runtime_checkable
class CachingRun(Protocol):
    """A run that plans `Mode.CACHED`, which asks for this beside `Run`.

    Samples planned so go through `seam(step, Mode.CACHED, rows)`, which may find inside the network that some need all
    of it. Where the denoiser is a `RowDenoise`, a run of this kind has its first evaluations counted (see
    `cost.Meter`), so that `Stats.nfe` holds what cached ones cost.
    """

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        """How the samples `rows`, planned CACHED, were evaluated at `step`: CACHED, or FULL where all of the network
        was. Called once they have been."""
        ...


@runtime_checkable
class BranchRun(Protocol):
    """A run that plans `Mode.CONDITIONAL`, which asks for this beside `Run`, and for a `BranchDenoise` with a negative
    branch."""

    def learn_guidance(self, step: int, rows: Sequence[int], difference: Tensor) -> None:
        """What guidance made of the samples `rows`, evaluated with both branches at `step`: guided x0 less the
        conditional branch's, (len(rows), ...)."""
        ...

    def guidance(self, step: int, rows: Sequence[int]) -> Tensor:
        """An estimate of that difference for the samples `rows`, whose conditional branch is evaluated at `step`."""
        ...


class Accelerator(Protocol):
    """Immutable settings that can start any number of independent runs."""

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        """Start on a batch of `shape` (B, ...). `seams` tells whether the network can be entered.

        Raises ValueError where `solver` has too few steps, or is of a kind that the method does not fit.
        """
        ...


@runtime_checkable
class FittedAccelerator(Protocol):
    """An accelerator that goes by what the network predicts; optional beside `Accelerator`."""

    def fitted(self, prediction: Prediction) -> Accelerator:
        """These settings for a network that predicts `prediction`."""
        ...


def fitted(accelerator: Accelerator, prediction: Prediction) -> Accelerator:
    """`accelerator` for a network that predicts `prediction`; itself where it does not go by that."""
    return accelerator.fitted(prediction) if isinstance(accelerator, FittedAccelerator) else accelerator


def require_falling_times(solver: Solver, name: str) -> None:
    """ValueError where `solver` evaluates more than once at a time or comes back to an earlier one."""
    times = [node.t for node in solver.nodes]
    if any(later >= earlier for earlier, later in pairwise(times)):
        raise ValueError(
            f"accelerator {name!r} needs a solver with one evaluation per step, {type(solver).__name__} returns to "
            "earlier times"
        )


def require_steps(solver: Solver, who: str, needed: int) -> None:
    """ValueError where `solver` makes fewer than `needed` evaluations; `who` begins with the accelerator's name."""
    if solver.n_evals < needed:
        raise ValueError(f"accelerator {who} needs at least {needed} steps, got {solver.n_evals}; {WITHOUT}")


class PlainRun:
    """Every sample evaluated in full at every step; the base of runs that override a part."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.FULL] * self.samples

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        raise NotImplementedError("a plan without skipped steps asks for no estimate")

    def revise(self, state: State, x0: Tensor) -> State:
        return state

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        return None

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        return call_through
