"""The program of docs/accelerators.md runs and passes `check_accelerator`, and the page names every law."""

import re
from collections.abc import Iterator

import pytest

from support.pages import lines, program, read_page, run_program, stated_lines
from support.stranger import registries_restored


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with registries_restored(monkeypatch):
        yield


@pytest.mark.slow
def test_the_program_passes_its_own_examination(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_program("accelerators.md", monkeypatch)
    report = capsys.readouterr().out
    assert report.startswith("Calm: ")
    laws = set(re.findall(r"^pass  ([a-z ]+?) +\[", report, re.M))
    page = read_page("accelerators.md")
    assert laws == set(re.findall(r"^\| ([a-z ]+) \| ", page.split("## The examination")[1], re.M)) - {"law"}


def test_the_page_says_how_long_its_program_is() -> None:
    assert stated_lines("accelerators.md") == lines(program("accelerators.md"))
