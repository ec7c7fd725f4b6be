"""The suite of exact mixtures that tests of the bench run, and readers of its folders."""

import json
import re
from pathlib import Path
from typing import Any

Record = dict[str, Any]

MIXTURE = """
model = "mixture-vp"
batch = 2
seeds = [3, 5, 8]

[[case]]
solvers = ["euler", "dpmpp2m"]
steps = [9]

[[case]]
model = "mixture-flow"
solvers = ["euler"]
steps = [9, 8]

[[method]]
name = "uniform"
accelerator = "uniform"
settings = [{}, {every = 3, order = 2, correct = true}]

[[method]]
name = "fewer"
accelerator = "sub-grid"
settings = [{steps = 4}, {steps = 6}]

[[method]]
accelerator = "fewer-steps"
steps = [9]
settings = [{steps = 4}]

[report]
speedups = [1.5]
levels = [30]
rivals = ["uniform"]

[timing]
settings = ["uniform", "sub-grid steps=4"]
steps = [8]
rounds = 3
samples = 2
"""


def lines(folder: Path) -> list[Record]:
    """The records of a bench folder without their seconds and digests."""
    records = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name not in ("seconds", "digest")} for record in records]


def cut(folder: Path, offset: int) -> None:
    """Truncates the records, as a kill of the bench while it writes does."""
    file = folder / "samples.jsonl"
    file.write_bytes(file.read_bytes()[:offset])


def table_of(text: str, title: str, number: int) -> dict[str, list[str]]:
    """Cells by the second column (settings) of the table `number` under a heading, or by the first (methods)."""
    block = text.split(f"## {title}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?:^\|.*\|\n)+", block + "\n", re.MULTILINE)[number]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()[2:]]
    return {row[1 - number]: row for row in rows}


def change(old: str, new: str) -> str:
    """The suite `MIXTURE` with one piece of its text replaced."""
    assert old in MIXTURE
    return MIXTURE.replace(old, new, 1)
