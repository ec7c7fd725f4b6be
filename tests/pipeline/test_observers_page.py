"""The programs of docs/calls.md on observers, and of docs/solvers.md on inversion, run as they stand."""

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def programs(page: str, marks: str) -> list[str]:
    """The programs of a page of which one line holds `marks`."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.S)
    return [block for block in blocks if re.search(marks, block)]


def test_the_programs_on_observers(capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, Any] = {}
    blocks = programs("calls.md", r"def (watch|keep_left|towards_kept)\(")
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/calls.md", "exec"), space)  # noqa: S102
    assert len(space["pictures"]) == 4
    assert 5 < int(capsys.readouterr().out) < 50
    plain = space["sample"](space["solver"], space["denoise"], space["noise"]).x
    assert (space["guided"].x - space["kept"]).norm() < 0.5 * (plain - space["kept"]).norm()


def test_the_program_on_inversion(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = programs("solvers.md", r"t\.flip\(0\)")
    exec(compile(block, "docs/solvers.md", "exec"), {})  # noqa: S102
    assert float(capsys.readouterr().out) == pytest.approx(0.0015, rel=0.5)
