"""A bench folder that was edited or damaged: what is wrong is said and measured again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sadaflow.bench import parse_suite, run_bench
from support.bench import MIXTURE, lines

Change = Callable[[list[bytes]], list[bytes]]

LINES: dict[str, tuple[Change, str]] = {
    "bytes": (lambda old: [b"\0\0" + old[0][2:], *old[1:]], "line 1 is damaged"),
    "a digit": (lambda old: [*old[:3], old[3].replace(b'"nfe": ', b'"nfe": 1'), *old[4:]], "line 4 is damaged"),
    "an empty line": (lambda old: [*old[:3], b"\n", *old[3:]], "line 4 is damaged"),
    "no line": (lambda old: old[:5] + old[6:], ""),
    "a line twice": (lambda old: [*old, old[0]], "occurs twice"),
    "another order": (lambda old: old[::-1], ""),
    "nesting": (lambda old: [b"[" * 99999 + b"\n", *old], "line 1 is damaged"),
    "a number that is none": (lambda old: [*old[:1], b'{"model": NaN}\n', *old[1:]], "line 2 is damaged"),
}


def _flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def _outside(file: Path) -> None:
    outside = file.rename(file.parent.parent.parent / "outside")
    file.symlink_to(outside)


def _replaced_by(other: Path, file: Path) -> None:
    file.write_bytes(other.read_bytes())


FILES: dict[str, Callable[[Path, Path], object]] = {
    "short": lambda file, other: file.write_bytes(b"short"),
    "a bit": lambda file, other: file.write_bytes(_flipped(file.read_bytes())),
    "empty": lambda file, other: file.write_bytes(b""),
    "another's": lambda file, other: _replaced_by(other, file),
    "a link": lambda file, other: _outside(file),
}


def _resumed_is_whole(folder: Path, mixture: Path) -> list[str]:
    """What is said when the folder is resumed; its records and references are then those of an undisturbed run."""
    said: list[str] = []
    run_bench(parse_suite(MIXTURE, "m"), folder, resume=True, say=said.append)
    assert lines(folder) == lines(mixture)
    for file in (mixture / "references").iterdir():
        found = folder / "references" / file.name
        assert found.read_bytes() == file.read_bytes() and not found.is_symlink()
    again: list[str] = []
    run_bench(parse_suite(MIXTURE, "m"), folder, resume=True, say=again.append)
    assert again == []
    return said


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("what", LINES)
def test_damaged_lines_are_measured_again(what: str, mixture: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mixture, tmp_path / "spoiled")
    change, words = LINES[what]
    file = folder / "samples.jsonl"
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))
    said = _resumed_is_whole(folder, mixture)
    assert [words in line and str(file) in line for line in said] == [True] * bool(words)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("what", FILES)
def test_damaged_references_are_computed_again(what: str, mixture: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mixture, tmp_path / "spoiled")
    file, other, *_ = sorted((folder / "references").iterdir())
    FILES[what](file, other)
    said = _resumed_is_whole(folder, mixture)
    assert len(said) == 1 and str(file) in said[0]
    if what == "a link":
        assert (tmp_path / "outside").read_bytes() == file.read_bytes()
