"""The worked example of docs/accelerators.md passes `check_accelerator`, and the page names every law."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "accelerators.md").read_text("utf-8")


@pytest.mark.slow
def test_the_worked_example_passes_its_own_examination(capsys) -> None:  # type: ignore[no-untyped-def]
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(compile(example, "docs/accelerators.md", "exec"), {"__name__": "example"})  # noqa: S102
    report = capsys.readouterr().out
    assert report.startswith("Calm: ")
    laws = set(re.findall(r"^pass  ([a-z ]+?) +\[", report, re.M))
    assert laws == set(re.findall(r"^\| ([a-z ]+) \| ", PAGE.split("## The examination")[1], re.M)) - {"law"}
