"""The interface between the sampling loop and accelerators: modes, runs and what runs can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn, Protocol, Self

import torch
from torch import Tensor

from sadaflow.models import Seam, call_through
from sadaflow.solvers import Solver, State


class Mode(StrEnum):
    """How one sample gets its x0 at one step."""

    FULL = "full"  # the whole network
    TOKENS = "tokens"  # the network on a part of the tokens
    CACHED = "cached"  # a part of the network, the rest taken from a cache
    CONDITIONAL = "conditional"  # the conditional branch alone, the effect of guidance estimated
    STEPWISE = "stepwise"  # no network: SADA's step-wise estimate
    MULTISTEP = "multistep"  # no network: SADA's multistep-wise (Lagrange) estimate
    EXTRAPOLATED = "extrapolated"  # no network: polynomial in log-SNR through true evaluations
    REUSED = "reused"  # no network: its past outputs, held or extrapolated

    @property
    def evaluates(self) -> bool:
        """Whether the network runs."""
        return self in (Mode.FULL, Mode.TOKENS, Mode.CACHED, Mode.CONDITIONAL)


@dataclass(frozen=True)
class Explanation:
    """The numbers behind the plan for one step: a value per sample, compared with a threshold.

    Attributes:
        name: Name of the criterion.
        threshold: Samples whose value is at or below it skip the step, unless another rule forbids it.
        values: One per sample; nan where the schedule decided.
        tokens: Per sample, a bool mask (h, w), or (T, h, w) of a video, on the network's grid of tokens, True where
            computed; None unless pruned.
    """

    name: str
    threshold: float
    values: Sequence[float]
    tokens: Sequence[Tensor | None]


@dataclass(frozen=True)
class Capabilities:
    """The optional methods of a run that the sampling loop calls.

    Attributes:
        explains: The run has `explain`, which is called if a trace is kept.
        caches: The run plans `Mode.CACHED` and has `carried_out`. The sampling loop counts the operations of its first
            evaluations, so that `Stats.nfe` holds the true cost of cached evaluations.
        omits_negative: The run plans `Mode.CONDITIONAL` and has `learn_guidance` and `guidance`. It needs a
            `BranchDenoise` with a negative branch.
    """

    explains: bool = False
    caches: bool = False
    omits_negative: bool = False

    @classmethod
    def of(cls, run: object) -> Self:
        """The capabilities of a run, or of a class of runs, by the optional methods that it defines."""

        def defines(name: str) -> bool:
            method = getattr(run, name, None)
            return method is not None and getattr(method, "__func__", method) is not getattr(Run, name)

        return cls(
            explains=defines("explain"),
            caches=defines("carried_out"),
            omits_negative=defines("learn_guidance") and defines("guidance"),
        )


class Run:
    """An accelerator's work on one batch. All mutable state of an accelerator lives in its runs.

    This base class evaluates every sample in full at every step; subclasses override what they change. The methods are
    called in the order in which they stand here. The last four are optional: a subclass that overrides them declares
    the capability by that.

    Args:
        samples: Number of samples in the batch, B.

    Attributes:
        samples: Number of samples in the batch, B.
        capabilities: The optional methods that the sampling loop calls. Set for each subclass from the methods that it
            overrides; a run that wraps another sets it for itself.
    """

    capabilities = Capabilities()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "capabilities" not in vars(cls):
            cls.capabilities = Capabilities.of(cls)

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def plan(self, step: int) -> Sequence[Mode]:
        """Chooses the mode of every sample at evaluation `step`.

        Returns:
            One `Mode` per sample.
        """
        return [Mode.FULL] * self.samples

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        """Estimates x0 of the samples that skip the network.

        Args:
            step: Index of the evaluation.
            x: States of all samples (B, ...).
            rows: Indices of the samples that skip.

        Returns:
            x0 of the samples `rows`, (len(rows), ...).
        """
        return self._missing("estimate")

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        """The seam for evaluating the samples `rows` in `mode`; called only if the denoiser is a `RowDenoise`."""
        return call_through

    def revise(self, state: State, x0: Tensor) -> State:
        """Corrects the state before the solver steps from it.

        Args:
            state: The solver's state at this step.
            x0: The network's x0, or the estimate of it, of every sample, (B, ...).

        Returns:
            The state to step from: `state`, or a corrected one.
        """
        return state

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        """Learns what happened at `step`, in order to plan the next one.

        Args:
            step: Index of the evaluation.
            x: States that the solver stepped from, (B, ...).
            x0: The network's x0, or the estimate of it, (B, ...).
            y: Velocities dx/dt of the probability-flow ODE at x and x0, (B, ...).
            x_next: States after the step, (B, ...).
        """

    def edited(self, step: int, rows: Sequence[int]) -> None:
        """Forgets what is remembered of samples that an observer has edited; called after `observe` of that step.

        The sampling loop evaluates these samples in full at the next step, whatever `plan` returns for them. A run that
        estimates x0 from earlier evaluations, or returns to earlier states, overrides this to do so no more.

        Args:
            step: Index of the evaluation whose x0, or whose states afterwards, were changed.
            rows: Indices of the samples, in order.
        """

    def explain(self, step: int) -> Explanation:
        """The numbers behind the plan for `step`; called once between `revise` and `observe` of that step."""
        return self._missing("explain")

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        """How the samples `rows`, planned CACHED, were evaluated at `step`; called after their evaluation.

        Returns:
            Per sample, `Mode.CACHED`, or `Mode.FULL` if the run decided inside the network to compute all of it.
        """
        return self._missing("carried_out")

    def learn_guidance(self, step: int, rows: Sequence[int], difference: Tensor) -> None:
        """Learns the effect of guidance on the samples `rows`, which were evaluated with both branches at `step`.

        Args:
            step: Index of the evaluation.
            rows: Indices of the samples.
            difference: Guided x0 less the conditional branch's x0, (len(rows), ...).
        """
        self._missing("learn_guidance")

    def guidance(self, step: int, rows: Sequence[int]) -> Tensor:
        """Estimates that difference, (len(rows), ...), for samples whose conditional branch alone is evaluated."""
        return self._missing("guidance")

    def _missing(self, method: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} plans a mode that needs `{method}`, which it does not define")


PlainRun = Run
"""The base class by the name under which accelerators derive from it for plain sampling."""


class Accelerator(Protocol):
    """Immutable settings that can start any number of independent runs."""

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        """Starts a run.

        Args:
            solver: The solver, with its grid.
            shape: Shape of the states, (B, ...).
            seams: Whether the denoiser lets a seam into its network.

        Raises:
            ValueError: if the solver has too few steps, or the method does not fit the solver or the denoiser.
        """
        ...
