"""Records a sampling run: times it, counts evaluations, checks for NaN, and keeps the trace."""

from contextlib import AbstractContextManager

from torch import Tensor

from sadaflow.solvers import Solver

from ..accelerators.base import Mode, Run
from ..device.readback import arrives_later
from ..device.timing import Stopwatch
from .binding import share_of
from .denoiser import Denoise, evaluates_rows
from .finite_check import FiniteCheck
from .nfe import Meter
from .results import Sampled, Stats, Step
from .trace_recorder import TraceRecorder


class Recorder:
    """Everything that the sampling loop does beside sampling. It changes no result.

    The clock starts when the recorder is made and stops at `finish`.

    Args:
        solver: The solver of the run.
        run: The accelerator's run.
        denoise: The denoiser. If it is a `RowDenoise`, it evaluates single samples of the batch, and each counts for
            itself.
        noise: Initial noise, (B, ...).
        trace: Whether to keep the trajectory.

    Attributes:
        meter: Counts the operations of evaluations.
    """

    def __init__(self, solver: Solver, run: Run, denoise: Denoise, noise: Tensor, *, trace: bool) -> None:
        samples = noise.shape[0]
        self._run, self._denoise, self._selective = run, denoise, evaluates_rows(denoise)
        self._nfe = [0.0] * samples
        self._modes: list[list[str]] = [[] for _ in range(samples)]
        self.meter = Meter(self._selective and run.capabilities.caches, getattr(denoise, "branches", 2))
        self._finite = FiniteCheck(solver, lag=arrives_later(noise.device))
        self._trace = TraceRecorder(solver, noise) if trace else None
        self._watch = Stopwatch(noise.device)
        self._began = self._watch.now()

    def network(self) -> AbstractContextManager[None]:
        """Context manager: times what happens in it as the network's."""
        return self._watch.measuring("network")

    def controller(self) -> AbstractContextManager[None]:
        """Context manager: times what happens in it as the accelerator's."""
        return self._watch.measuring("controller")

    def evaluated(self, step: int, x: Tensor, x0: Tensor, modes: list[Mode]) -> None:
        """Counts an evaluation and checks it.

        Args:
            step: Index of the evaluation.
            x: States, (B, ...), as the solver made them.
            x0: x0 of every sample, (B, ...).
            modes: How each was obtained.

        Raises:
            FloatingPointError: if x or x0 is not finite (on CUDA, `observed` raises it one step later).
        """
        called, share = any(mode.evaluates for mode in modes), share_of(self._denoise, step)
        for row, mode in enumerate(modes):
            self._modes[row].append(mode.value)
            self._nfe[row] += self.meter.cost(mode, share) if self._selective else float(called)
        self._finite.check(x, x0, step)

    def stepped(self, step: Step) -> None:
        """Adds a step to the trace; called before the run observes the step."""
        if self._trace is not None:
            with self._watch.measuring("trace"):
                seconds = self._watch.seconds("network"), self._watch.seconds("controller")
                self._trace.record(step.index, (step.x, step.x0, step.y), self._run, *seconds)

    def edited(self, step: Step) -> None:
        """Replaces a step of the trace, whose x0 an observer has edited."""
        if self._trace is not None:
            with self._watch.measuring("trace"):
                self._trace.replace(step.index, (step.x, step.x0, step.y))

    def observed(self) -> None:
        """Ends a step, after the run has observed it.

        By then the accelerator has read its numbers of this step, so that the check rarely waits for the device.

        Raises:
            FloatingPointError: if x0 of the step before was not finite (on CUDA).
        """
        self._finite.catch_up()

    def finish(self, x: Tensor, stopped_after: int | None = None) -> Sampled:
        """Ends the run.

        Args:
            x: The final states, (B, ...), or the last x0 of a run that an observer stopped.
            stopped_after: Number of steps made, if an observer stopped the run.

        Raises:
            FloatingPointError: if the last x0, or x, is not finite.
        """
        self._finite.finish(x)
        seconds = self._watch.now() - self._began - self._watch.seconds("trace")
        controller, network = self._watch.seconds("controller"), self._watch.seconds("network")
        stats = Stats(self._nfe, self._modes, seconds, controller, network, stopped_after)
        return Sampled(x, stats, None if self._trace is None else self._trace.trace(self._modes))
