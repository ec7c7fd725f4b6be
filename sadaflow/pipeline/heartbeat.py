"""Progress lines of long work, where no terminal shows a progress bar."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ..sampling.observing import Observer, Reply
from ..sampling.results import Step

EVERY: Final = 30.0
"""Seconds from one line to the next."""


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass
class Heartbeat:
    """Counts work, and writes a line about it at most every 30 seconds: "generate: 120 of 4000 prompts, 3.2/min".

    Attributes:
        label: What is being done.
        total: The count at the end; None if it is not known.
        unit: What is counted, in the singular.
        write: Writes a line; stderr by default.
        clock: Seconds since some moment.
    """

    label: str
    total: int | None
    unit: str
    write: Callable[[str], None] = _print
    clock: Callable[[], float] = time.monotonic
    done: int = field(default=0, init=False)
    _begun: float = field(default=0.0, init=False)
    _last: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._begun = self._last = self.clock()

    def __call__(self, count: int = 1) -> None:
        """Adds to the count."""
        self.done += count
        now = self.clock()
        if now - self._last < EVERY or self.done == self.total:
            return
        self._last = now
        total = "" if self.total is None else f" of {self.total}"
        rate = 60 * self.done / (now - self._begun)
        self.write(f"{self.label}: {self.done}{total} {self.unit}s, {rate:.3g}/min")


def beating(label: str, observer: Observer | None) -> Observer | None:
    """An observer of a run that also writes lines about it, where stderr is not a terminal.

    Args:
        label: What is being done.
        observer: The observer, whose reply is passed on; None if there is none.
    """
    if sys.stderr.isatty():
        return observer
    beats: list[Heartbeat] = []

    def observe(step: Step) -> Reply:
        if not beats:
            beats.append(Heartbeat(label, step.total, "step"))
        beats[0]()
        return None if observer is None else observer(step)

    return observe
