"""Combines the measurements of several processes: each writes to its own part, the last to finish merges the parts.

The folder of a run holds meanwhile:

    parts/3/           what process 3 has measured: samples.jsonl, worst/
    gathering/         all parts, while they are merged
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ...files.atomic import write_atomically
from ...files.png import read_text
from ..suite.model import Suite
from .folder import GATHERING, PARTS, WORST
from .lines import SAMPLE, Lines, Record
from .sweep import Key, key_of, keys


def gather(path: Path, suite: Suite) -> None:
    """Merges the parts into the folder, while no process measures. It can be interrupted and repeated."""
    for name in (GATHERING, PARTS):
        parts = path / name
        if not parts.is_dir():
            continue
        _write_ordered(path, suite, _records(path, parts))
        for picture in sorted(parts.glob(f"*/{WORST}/*.png")):
            kept = path / WORST / picture.name
            if not kept.exists() or _psnr(picture) < _psnr(kept):
                kept.parent.mkdir(exist_ok=True)
                write_atomically(kept, picture.read_bytes())
        shutil.rmtree(parts)


def arrange(path: Path, suite: Suite) -> None:
    """Puts the records of the folder into the order of the suite, which differs if some were measured again."""
    _write_ordered(path, suite, _lines(path).read())


def _write_ordered(path: Path, suite: Suite, records: Iterable[Record]) -> None:
    found = {key_of(record): record for record in records}
    _lines(path).write([found[key] for key in keys(suite) if key in found])


def _lines(folder: Path) -> Lines:
    return Lines(folder / "samples.jsonl", SAMPLE)


def finish(path: Path, suite: Suite) -> bool:
    """Merges the parts if everything is measured.

    Returns:
        Whether this process merged them. If several processes try at once, exactly one does.
    """
    parts = path / PARTS
    measured: set[Key] = {key_of(record) for record in _records(path, parts)}
    if not measured.issuperset(keys(suite)):
        return False
    try:
        os.rename(parts, path / GATHERING)
    except FileNotFoundError:
        return False
    gather(path, suite)
    return True


def _records(path: Path, parts: Path) -> Iterable[Record]:
    """Yields the records of the parts, then those of the folder; a part is removed only after it has been merged."""
    for folder in (*sorted(file.parent for file in parts.glob("*/samples.jsonl")), path):
        yield from _lines(folder).read()


def _psnr(picture: Path) -> float:
    return float(read_text(picture)["psnr"])
