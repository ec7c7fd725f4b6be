"""Checks everything in the folder of a bench before it is continued, and removes what is damaged."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from ...files.own_json import NUMBER, Fields, check_fields
from ..suite.model import Case, Suite
from .folder import GATHERING, PARTS, WORST, Folder
from .gather import gather
from .lines import SAMPLE, Lines, Record, Say
from .sweep import case_of, key_of, keys
from .timing import firsts, timed
from .worst import damaged_worst

_RUN: Final[Fields] = dict.fromkeys(("nfe", "seconds", "network", "controller", "memory"), NUMBER)
_Key = tuple[Any, ...]


def prepare(folder: Folder, suite: Suite, say: Say) -> None:
    """Repairs what a killed or edited run left, while no other process measures.

    Args:
        folder: The folder.
        suite: Its suite.
        say: Called with a line of text for everything that is removed and measured again.
    """
    path = folder.path
    places = [path, *sorted(part for name in (GATHERING, PARTS) for part in (path / name).glob("*"))]
    again = {found for place in places for found in _damaged_worst(place / WORST, suite, say)}

    def repeated(record: Record) -> bool:
        return (case_of(record), record["setting"]) in again

    for place in places:
        Lines(place / "samples.jsonl", SAMPLE).mend(_once(keys(suite), key_of, repeated), say)
    gather(path, suite)
    folder.check_tensors(suite, say)
    folder.sets.mend(_once(_set_keys(suite), _set_key, repeated), say)
    folder.timing.mend(_once(_round_keys(suite), _round_key, lambda record: not _is_round(record, suite)), say)


def _once(
    wanted: Iterable[_Key], key: Callable[[Record], _Key], leave_out: Callable[[Record], bool]
) -> Callable[[Record], bool]:
    """Returns a predicate: whether a record is the first with one of the keys `wanted`, and not to be left out."""
    left = Counter(wanted)

    def keep(record: Record) -> bool:
        found = key(record)
        if not left[found] or leave_out(record):
            return False
        left[found] -= 1
        return True

    return keep


def _damaged_worst(pictures: Path, suite: Suite, say: Say) -> Iterable[tuple[Case, str]]:
    """Yields the settings whose worst picture was damaged and is now removed."""
    for case in suite.cases if pictures.is_dir() else ():
        for setting in suite.settings(case):
            if (problem := damaged_worst(pictures, case, setting)) is not None:
                say(f"{problem}; setting {setting.label} of {case.title} is measured again")
                yield case, setting.label


def _set_keys(suite: Suite) -> Iterable[_Key]:
    for case in suite.cases:
        for setting in suite.settings(case):
            yield from ((case, setting.label, metric) for metric in suite.metrics)


def _set_key(record: Record) -> _Key:
    return case_of(record), record["setting"], record["metric"]


def _round_keys(suite: Suite) -> Iterable[_Key]:
    if suite.timing is None:
        return
    for case in suite.cases:
        for first in firsts(suite, suite.timing, case):
            yield from ((case, first, index) for index in range(suite.timing.rounds))


def _round_key(record: Record) -> _Key:
    return case_of(record), record["first"], record["round"]


def _is_round(record: Record, suite: Suite) -> bool:
    """Whether the record of a round has the numbers of each setting that is timed."""
    if {setting.label for setting in timed(suite, case_of(record))} != record["runs"].keys():
        return False
    try:
        for run in record["runs"].values():
            check_fields(run, _RUN, "run")
    except ValueError:
        return False
    return True
