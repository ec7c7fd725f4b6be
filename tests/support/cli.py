"""Runs the command line in tests."""

from pathlib import Path

import pytest

from sadaflow.cli import main


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """The one line of a refused call, which leaves no file behind."""
    before = sorted(Path.cwd().rglob("*"))
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert sorted(Path.cwd().rglob("*")) == before
    return printed.err.removeprefix("error: ").strip()
