"""What a part of the benchmark reports: rows of tables, checks against tolerances, goals, and what it had to leave out.

All are plain JSON objects, written as soon as they are known.
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
    """What every part is given. `small` shrinks the networks and lists, to rehearse on a CPU; `deadline` is the value
    of `time.monotonic()` at which the part is killed; `root` is the checkout, for its tests and wheels."""

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
        """Seconds until the part is killed."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True)
class Part:
    """One part: `run` yields records; `seconds` is its share of an eight-minute benchmark, `rehearsed` that of a
    rehearsal of a minute; `letter` is its place on the page."""

    name: str
    letter: str
    title: str
    seconds: float
    rehearsed: float
    run: Callable[[Setup], Iterator[Record]]

    def share(self, small: bool) -> float:
        """Seconds of the whole that are meant for this part."""
        return self.rehearsed if small else self.seconds


def row(table: str, **columns: Any) -> Record:
    """One line of the table named `table`; columns in the order given."""
    return {"table": table, "columns": columns}


def check(name: str, error: float, tolerance: float, note: str = "") -> Record:
    """A comparison with a reference: passed if `error` is a number and at most `tolerance`."""
    passed = math.isfinite(error) and error <= tolerance
    shown = error if math.isfinite(error) else str(error)  # JSON has no NaN
    return {"check": name, "error": shown, "tolerance": tolerance, "passed": passed, "note": note}


def verdict(name: str, passed: bool, note: str = "") -> Record:
    """A check that either holds or does not."""
    return {"check": name, "passed": passed, "note": note}


def goal(name: str, value: float, limit: float, *, at_least: bool = False) -> Record:
    """A number that is to be at most `limit`, or with `at_least` at least that."""
    met = value >= limit if at_least else value <= limit
    return {"goal": name, "value": value, "limit": limit, "at_least": at_least, "met": met}


def omitted(what: str, why: str) -> Record:
    """Something that was not measured, and the reason."""
    return {"omitted": what, "why": why}


def failure(what: str, error: BaseException, root: Path) -> Record:
    """An exception: its type, its message, and the innermost line of the checkout that it passed."""
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
    """The records of `measure`; if it raises, a failure named `what`, after which the caller goes on."""
    try:
        yield from measure()
    except Exception as error:  # noqa: BLE001 - any failure is a result, and must not stop what follows
        yield failure(what, error, setup.root)
