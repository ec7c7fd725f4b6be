"""Tables of docs/fronts.md from folders of the bench: `auto` beside its best rivals, and every setting.

    sadaflow bench fronts-tiny-sd --out sd && sadaflow bench fronts-tiny-flux --out flux
    python docs/scripts/tabulate_fronts.py sd flux
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sadaflow.bench.reporting.fronts import Row, rows
from sadaflow.bench.run.folder import Folder
from sadaflow.bench.suite import Suite, parse_suite
from sadaflow.bench.suite.model import PLAIN, Case

SHOWN = {"dpmpp2m": "2M", "euler": "Euler"}
ROOM = 1.125  # a rival may cost so many times what `auto` does
LONGEST = 50  # steps of the table of all settings

Table = tuple[Case, Sequence[Row]]


def tables(path: Path) -> Iterator[Table]:
    """The cases of a folder with the rows that were measured in full."""
    folder = Folder.read(path)
    suite: Suite = parse_suite(folder.header["suite"], folder.header["name"])
    records = folder.samples.read()
    for case in suite.cases:
        whole = len(suite.samples_of(case))
        if found := [row for row in rows(suite, case, records) if row.samples == whole]:
            yield case, found


def title(case: Case) -> str:
    """Model, solver and steps."""
    return f"{case.model}, {SHOWN.get(case.solver, case.solver)}, {case.steps}"


def compared(case: Case, found: Sequence[Row]) -> Iterator[list[str]]:
    """Cells of a row for each setting of `auto`: what was asked for, what came, and the best rivals at its cost."""
    rivals = [row for row in found if row.setting != PLAIN and row.setting.method != "auto"]
    for row in found:
        if row.setting.method != "auto":
            continue
        speedup = float(dict(row.setting.arguments)["speedup"])
        asked = case.steps / speedup
        cells = [title(case), f"{speedup:g}", f"{asked:.1f}", f"{row.cost:.1f}", f"{row.cost / asked - 1:+.1%}"]
        cells += [f"{row.fidelity:.1f}", f"{row.fifth:.1f}", f"{row.worst:.1f}"]
        near = [rival for rival in rivals if rival.cost <= ROOM * row.cost]
        if near:
            mean, fifth = max(near, key=lambda one: one.fidelity), max(near, key=lambda one: one.fifth)
            cells += [f"{named(mean)}: {mean.fidelity:.1f}", f"{named(fifth)}: {fifth.fifth:.1f}"]
        yield cells if near else [*cells, "none so cheap", ""]


def named(row: Row) -> str:
    """A setting with its cost."""
    return f"`{row.setting.label}` at {row.cost:.1f}"


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines))


def every_setting(found: Mapping[str, Sequence[Row]]) -> str:
    """A table of all settings: a row for each, columns for each case."""
    labels = dict.fromkeys(row.setting.label for table in found.values() for row in table if row.setting != PLAIN)
    by_case = [{row.setting.label: row for row in table} for table in found.values()]
    lines = []
    for label in labels:
        cells = [f"`{label}`"]
        for table in by_case:
            row = table.get(label)
            cells += ["", ""] if row is None else [f"{row.cost:.1f}", f"{row.fidelity:.1f} / {row.fifth:.1f}"]
        lines.append(cells)
    head = [""]
    for case in found:
        head += [case, "mean / 5th percentile"]
    return markdown(head, lines)


def main(folders: Sequence[str]) -> None:
    found = [table for folder in folders for table in tables(Path(folder))]
    head = ["model, solver, steps", "`speedup=`", "evaluations asked", "made", "off by"]
    head += ["mean", "5th percentile", "worst", "best rival in the mean", "best rival in the 5th percentile"]
    print(markdown(head, [cells for case, table in found for cells in compared(case, table)]), end="\n\n")
    print(every_setting({title(case): table for case, table in found if case.steps == LONGEST}))


if __name__ == "__main__":
    main(sys.argv[1:])
