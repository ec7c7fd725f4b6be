"""The program of docs/pictures.md runs."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "pictures.md").read_text("utf-8")


def test_the_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(compile(program, "docs/pictures.md", "exec"), {"__name__": "example"})  # noqa: S102
    (evaluations,) = re.findall(r"\[([\d.]+)\]", capsys.readouterr().out)
    assert 5 < float(evaluations) < 45
