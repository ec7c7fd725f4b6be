"""Runs the program of a page: its blocks of Python, one after the other."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def read_page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def program(name: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```", read_page(name), re.S | re.M))


def stated_lines(name: str) -> int:
    """The number of lines that a page says its program has."""
    (stated,) = re.findall(r"one program of (\d+) lines", read_page(name))
    return int(stated)


def lines(text: str) -> int:
    """Number of lines of a program that are not empty."""
    return sum(bool(line.strip()) for line in text.splitlines())


def run_program(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module in which the program of a page has run; it can be imported until the test ends."""
    module = ModuleType(f"page_{Path(name).stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclasses and torch.compile look names up
    exec(compile(program(name), f"docs/{name}", "exec"), module.__dict__)  # noqa: S102
    return module
