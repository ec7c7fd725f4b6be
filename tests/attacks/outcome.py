"""What comes of an attack, and how attempts are run: in a process of their own, which may crash or hang."""

import hashlib
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 30.0
"""Longest attempt."""
EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)
"""Errors of the library that bad input may raise."""

KINDS = (
    *("withstood", "traceback", "wrong result", "touched outside"),
    *("file not named", "no usable message", "crashed", "hung"),
)
"""What may come of an attempt; all but the first are shortfalls."""


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: one of `KINDS`, and what was seen."""

    kind: str
    note: str = ""


WITHSTOOD = Outcome("withstood")

Attempt = Callable[[int, Path], Outcome]
"""From a seed and an empty folder to the outcome."""


@dataclass(frozen=True)
class Attack:
    """A class of attacks.

    Attributes:
        name: Its name in the table.
        what: What an attempt does, for the table.
        prepare: Makes what all attempts share in an empty folder, once.
        quick: Attempts in the test suite.
    """

    name: str
    what: str
    prepare: Callable[[Path], Attempt]
    quick: int


def judged(action: Callable[[], object], *names: str) -> Outcome | None:
    """The outcome of an action that failed: it must be an expected error that holds one of `names`; None if it did not.

    Messages are one screen at most, and say something.
    """
    try:
        action()
    except EXPECTED as error:
        message = str(error)
        if not message.strip() or len(message) > 6000:
            return Outcome("no usable message", f"{type(error).__name__} with a message of {len(message)} characters")
        if names and not any(name in message for name in names):
            return Outcome("file not named", f"{type(error).__name__}: {message[:300]}")
        return WITHSTOOD
    except BaseException as error:
        return Outcome("traceback", "".join(traceback.format_exception(error))[-1500:])
    return None


def contents(folder: Path) -> dict[str, str]:
    """A digest of every file below a folder, by path; links are not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _work(attempt: Attempt, seeds: Iterable[int], place: Path, results: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    for seed in seeds:
        folder = place / str(seed)
        folder.mkdir()
        try:
            outcome = attempt(seed, folder)
        except BaseException as error:
            outcome = Outcome(
                "traceback", "in the attack itself: " + "".join(traceback.format_exception(error))[-1500:]
            )
        results.send((seed, outcome))


def run(attack: Attack, seeds: Iterable[int], place: Path, until: float) -> Iterator[tuple[int, Outcome]]:
    """Run attempts; yields the seed and the outcome of each.

    Args:
        attack: The class of attacks.
        seeds: One for each attempt.
        place: An empty folder.
        until: Value of `time.monotonic()` at which no further attempt is begun.
    """
    (place / "shared").mkdir(parents=True)
    attempt = attack.prepare(place / "shared")
    left, fork = list(seeds), multiprocessing.get_context("fork")
    while left and time.monotonic() < until:
        folder = place / f"from {left[0]}"
        folder.mkdir()
        receive, send = fork.Pipe(duplex=False)
        worker = fork.Process(target=_work, args=(attempt, left, folder, send))
        worker.start()
        send.close()
        try:
            while left and time.monotonic() < until:
                if not receive.poll(SECONDS):
                    yield left.pop(0), Outcome("hung", f"no outcome after {SECONDS:g} s")
                    break
                seed, outcome = receive.recv()
                left.remove(seed)
                yield seed, outcome
        except EOFError:
            worker.join()
            yield left.pop(0), Outcome("crashed", f"exit code {worker.exitcode}")
        finally:
            worker.kill()
            worker.join()
