"""The evaluation in progress: what submodules that stand in place of others report to."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, Protocol

from torch import nn

from .copies import Standing


class Evaluation(Protocol):
    """One evaluation of a network in which some submodules report their calls."""

    def enter(self, name: str, inner: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Returns what stands for `inner(*args, **keywords)`, the call of the submodule `name`."""
        ...


_CURRENT: Final[ContextVar[Evaluation | None]] = ContextVar("evaluation", default=None)
"""Each thread has its own, so that threads may evaluate the same network at once."""


@contextmanager
def running(evaluation: Evaluation) -> Iterator[None]:
    """Context manager in which the calls of standing submodules are those of an evaluation."""
    token = _CURRENT.set(evaluation)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def standing(name: str, inner: nn.Module) -> Standing:
    """A module in place of the submodule `name`, which reports its calls to the evaluation in progress."""
    return Standing(inner, partial(_enter, name))


def _enter(name: str, inner: nn.Module, *args: Any, **keywords: Any) -> Any:
    current = _CURRENT.get()
    return inner(*args, **keywords) if current is None else current.enter(name, inner, args, keywords)
