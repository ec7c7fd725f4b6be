"""Limits on the solver under examination: it must advance, end in time, and raise nothing."""

import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from torch import Tensor

from ..base import Solver, State
from .report import Law

_EVALUATIONS: Final = 64  # per step: the most stages that a method may have
_AGAIN: Final = 0.5  # seconds between further attempts to end a law


class Refused(Exception):
    """The solver does something that ends the law at once."""


class OutOfTime(Exception):
    """A law took more processor time than it may."""


def evaluations(solver: Solver) -> int:
    """Returns the solver's number of evaluations; raises Refused if it is not a sensible number."""
    count = solver.n_evals
    most = _EVALUATIONS * (solver.grid.n_steps + 1)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= most:
        raise Refused(f"n_evals is {count!r} on a grid of {solver.grid.n_steps} steps")
    return count


def advance(solver: Solver, state: State, x0: Tensor) -> State:
    """Takes one step; raises Refused if the result is not the state of the next evaluation."""
    after = solver.step(state, x0)
    if after.step != state.step + 1:
        raise Refused(f"step() led from evaluation {state.step} to {after.step}, not to {state.step + 1}")
    if after.x.shape != state.x.shape:
        raise Refused(f"step() changed the shape of x from {tuple(state.x.shape)} to {tuple(after.x.shape)}")
    return after


def follow(
    solver: Solver, state: State, denoise: Callable[[Tensor, int], Tensor]
) -> Iterator[tuple[State, Tensor, State]]:
    """Runs a state to the end; yields (state, x0, next state) at every evaluation."""
    count = evaluations(solver)
    while state.step < count:
        x0 = denoise(state.x, state.step)
        after = advance(solver, state, x0)
        yield state, x0, after
        state = after


def guarded(
    name: str, where: str, seconds: float, measure: Callable[[], Sequence[Law]]
) -> tuple[list[Law], bool]:
    """Measures a law.

    Args:
        name: name of the law, for the result if the solver raises.
        where: the grid.
        seconds: processor time that it may take.
        measure: makes the results.

    Returns:
        The results, and whether the law ended in time. What the solver raises is a failure of the law.
    """
    try:
        with _time_limit(seconds):
            return list(measure()), True
    except OutOfTime:
        measured = f"no end after {seconds:g} s of processor time"
        return [Law(name, where, measured, "an end", False)], False
    except Refused as problem:
        return [Law(name, where, str(problem), "evaluations one after the other", False)], True
    except (Exception, SystemExit) as problem:
        return [Law(name, where, _described(problem), "no exception", False)], True


def _described(problem: BaseException) -> str:
    """An exception in one line, with the line of the solver's code that raised it."""
    here = str(Path(__file__).parent)
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if not frame.filename.startswith(here)]
    text = " ".join(str(problem).split())[:200]
    place = f" at {Path(frames[0].filename).name}:{frames[0].lineno}" if frames else ""
    return f"{type(problem).__name__}{': ' if text else ''}{text}{place}"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises OutOfTime after some processor time, where the platform has such a timer."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGPROF, stop)
    # Again and again: an exception that is raised where Python ignores them, as in a finalizer, is lost.
    signal.setitimer(signal.ITIMER_PROF, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
