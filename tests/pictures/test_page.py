"""The programs of docs/pictures.md and docs/inversion.md run."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE, INVERSION = ((DOCS / name).read_text("utf-8") for name in ("pictures.md", "inversion.md"))


def test_the_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(compile(program, "docs/pictures.md", "exec"), {"__name__": "example"})  # noqa: S102
    (evaluations,) = re.findall(r"\[([\d.]+)\]", capsys.readouterr().out)
    assert 5 < float(evaluations) < 45


@pytest.mark.slow
def test_the_program_of_inversion_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", INVERSION, re.S)
    exec(compile(program, "docs/inversion.md", "exec"), {"__name__": "example"})  # noqa: S102
    assert capsys.readouterr().out == "True\n[4.0] [8.0]\n"
