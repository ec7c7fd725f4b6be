"""The programs of docs/your-network.md and docs/write-a-seam.md run, and have the numbers of lines that they state."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

DOCS = Path(__file__).parents[2] / "docs"
UNCOUNTED = {0: (), 1: ()}


def programs(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.S)


def lines(program: str) -> int:
    """Lines of a program that are not blank."""
    return sum(bool(line.strip()) for line in program.splitlines())


def run(program: str, page: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    torch.manual_seed(0)
    names = {"__name__": "page"} if names is None else names
    exec(compile(program, page, "exec"), names)  # noqa: S102
    return names


def test_a_network_of_your_own(capsys: pytest.CaptureFixture[str]) -> None:
    plain, network, program = programs("your-network.md")
    text = (DOCS / "your-network.md").read_text("utf-8")
    counts = [
        int(count)
        for count in re.findall(r"(?:program|takes) (?:takes )?,? ?(\d+) lines|, (\d+) lines", text)
        for count in count
        if count
    ]
    assert [lines(plain), lines(program)] == counts
    run(plain, "your-network.md")
    deviation, nfe = capsys.readouterr().out.split(" ", 1)
    assert abs(float(deviation) - 0.5) < 0.1  # the data's own
    assert all(count < 40 for count in eval(nfe))  # noqa: S307
    run(program, "your-network.md", run(network, "your-network.md"))
    printed = [line.split(" ", 1) for line in capsys.readouterr().out.splitlines()]
    assert len(printed) == 8
    saving = {name for name, nfe in printed if max(eval(nfe)) < 20}  # noqa: S307
    assert saving >= {name for name, _ in printed} - {"first-block", "auto"}


def test_an_accelerator_inside_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    accelerator, network, program = programs("write-a-seam.md")
    text = (DOCS / "write-a-seam.md").read_text("utf-8")
    assert [lines(accelerator), lines(network)] == [
        int(count) for count in re.findall(r"^## .*, (\d+) lines", text, re.M)
    ]
    names = run(network, "write-a-seam.md", run(accelerator, "write-a-seam.md"))
    run(program, "write-a-seam.md", names)
    report, nfe = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert report.startswith("the network's sites: ") and "FAIL" not in report
    laws = set(re.findall(r"^pass  ([a-z]+)", report, re.M))
    assert laws == set(re.findall(r"^\| ([a-z]+) \| ", text.split("| law |")[1], re.M))
    assert all(10 < count < 16 for count in eval(nfe))  # noqa: S307


@pytest.mark.slow
def test_the_accelerator_of_the_page_passes_its_examination() -> None:
    from sadaflow.checks import check_accelerator

    names = run(programs("write-a-seam.md")[0], "write-a-seam.md")
    check_accelerator(names["Alternate"], worst=100.0, excuse=["one sample changed", "batch invariance"])
