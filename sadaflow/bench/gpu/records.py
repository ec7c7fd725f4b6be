"""The records of a part of the benchmark: rows of tables, checks, goals, and omissions.

They are plain JSON objects, and are written immediately.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

Record = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """The inputs of every part.

    `small` shrinks networks and lists, to rehearse on a CPU. `deadline` is the value of `time.monotonic()` at which the
    part is killed. `root` is the checkout, for its tests and wheels.
    """

    device: torch.device
    small: bool
    deadline: float
    root: Path
    earlier: tuple[Record, ...] = ()
    """What the parts before have found."""

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def left(self) -> float:
        """Returns seconds until the part is killed."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    `run` yields records. `seconds` is its share of an eight-minute benchmark, `rehearsed` its share of a rehearsal of
    one minute. `letter` gives its position on the page.
    """

    name: str
    letter: str
    title: str
    seconds: float
    rehearsed: float
    run: Callable[[Setup], Iterator[Record]]

    def share(self, small: bool) -> float:
        """Returns the seconds that are planned for this part."""
        return self.rehearsed if small else self.seconds


def row(table: str, **columns: Any) -> Record:
    """Returns a line of the table named `table`, with columns in the order given."""
    return {"table": table, "columns": columns}


def check(name: str, error: float, tolerance: float, note: str = "") -> Record:
    """Returns a comparison with a reference, passed if `error` is finite and at most `tolerance`."""
    passed = math.isfinite(error) and error <= tolerance
    shown = error if math.isfinite(error) else str(error)  # JSON has no NaN
    return {"check": name, "error": shown, "tolerance": tolerance, "passed": passed, "note": note}


def verdict(name: str, passed: bool, note: str = "") -> Record:
    """Returns a check that holds or does not."""
    return {"check": name, "passed": passed, "note": note}


def goal(name: str, value: float, limit: float, *, at_least: bool = False) -> Record:
    """Returns a number that should be at most `limit`, or at least `limit` with `at_least`."""
    met = value >= limit if at_least else value <= limit
    return {"goal": name, "value": value, "limit": limit, "at_least": at_least, "met": met}


def omitted(what: str, why: str) -> Record:
    """Returns a record of something that was not measured, with the reason."""
    return {"omitted": what, "why": why}


def failure(what: str, error: BaseException, root: Path) -> Record:
    """Returns a record of an exception: type, message, and the innermost line of the checkout in its traceback."""
    where = ""
    frame = error.__traceback__
    while frame is not None:
        file = Path(frame.tb_frame.f_code.co_filename)
        if root in file.parents or not where:
            where = f"{file.relative_to(root) if root in file.parents else file}:{frame.tb_lineno}"
        frame = frame.tb_next
    message = " ".join(str(error).split())
    return {"failed": what, "type": type(error).__name__, "message": message[:500], "where": where}


def attempted(what: str, setup: Setup, measure: Callable[[], Iterator[Record]]) -> Iterator[Record]:
    """Yields the records of `measure`; if it raises, a failure named `what`, and the caller continues."""
    try:
        yield from measure()
    except Exception as error:  # noqa: BLE001 - any failure is a result, and must not stop what follows
        yield failure(what, error, setup.root)
