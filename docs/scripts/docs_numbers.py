"""Says where the measured numbers of the pages come from, and which of them are older than the code that they measure.

    python docs/scripts/docs_numbers.py                        # `make docs-numbers`

A table counts as one of measurements if at least half of the cells of one of its columns begin with a number that has a
decimal point or an exponent. After it, or after the last of several tables of a section, a line names its source:

    Source: `COMMAND`, commit 1a2b3c4, code `sadaflow/accelerators` `solvers`; machine and other remarks.

COMMAND gave the numbers at that commit. They are older than their code if a later commit changes one of the paths.
"Source: not recorded" is written where nobody knows. Numbers that no code of this repository makes begin with
"Source: computed", "Source: published" or "Source: held by", with what they follow from.
"""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_NUMBER = re.compile(r"[*<>=~≤≥+\-−\s]*\d+(?:\.\d+|(?:\.\d+)?e[+-]?\d+)")
_COMMIT = re.compile(r"\bcommit ([0-9a-f]{7,40})\b")
_CODE = re.compile(r", code ((?:`[^`]+`\s*)+)")
_UNMEASURED = ("computed", "published", "held by")


class State(Enum):
    """What is known of a table's numbers."""

    CURRENT = "as new as the code"
    OLDER = "older than the code"
    UNKNOWN = "commit not in this clone"
    UNRECORDED = "not recorded"
    UNMEASURED = "not measured here"
    MISSING = "no source"


@dataclass(frozen=True)
class Table:
    """A table of measurements.

    Attributes:
        page: The page, relative to the repository.
        line: Its first line, counted from 1.
        source: Text of its source without "Source: "; None without a source.
    """

    page: str
    line: int
    source: str | None

    @property
    def commit(self) -> str | None:
        found = _COMMIT.search(self.source or "")
        return found[1] if found else None

    @property
    def code(self) -> list[str]:
        """Paths of the code that was measured."""
        found = _CODE.search(self.source or "")
        return re.findall(r"`([^`]+)`", found[1]) if found else []


def pages(root: Path) -> list[Path]:
    """The README and the pages of docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def tables(text: str, page: str) -> Iterator[Table]:
    """The tables of measurements of a page, each with the next source of its section."""
    lines = re.sub(r"^ *```.*?^ *```$", lambda block: "\n" * block[0].count("\n"), text, flags=re.S | re.M).split("\n")
    start = 0
    while start < len(lines):
        end = start
        while end < len(lines) and lines[end].lstrip().startswith("|"):
            end += 1
        if is_measured(lines[start:end]):
            yield Table(page, start + 1, _source(lines[end:]))
        start = max(end, start + 1)


def is_measured(table: list[str]) -> bool:
    """Whether half of the cells of a column begin with a number that has a decimal point or an exponent."""
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in table[2:]]
    columns = (
        [[row[index].strip() for row in rows if index < len(row)] for index in range(1, len(rows[0]))] if rows else []
    )
    return any(2 * sum(map(bool, map(_NUMBER.match, cells))) >= len(cells) for cells in columns)


def _source(lines: list[str]) -> str | None:
    """The paragraph that begins with "Source: ", before the next heading."""
    for index, line in enumerate(lines):
        if line.startswith("#"):
            return None
        if line.lstrip().startswith("Source: "):
            end = next((at for at in range(index, len(lines)) if not lines[at].strip()), len(lines))
            return " ".join(map(str.strip, lines[index:end])).removeprefix("Source: ")
    return None


def state(table: Table, root: Path) -> tuple[State, str]:
    """What is known of a table, and a remark."""
    if table.source is None:
        return State.MISSING, ""
    if table.source.startswith("not recorded"):
        return State.UNRECORDED, ""
    if table.source.startswith(_UNMEASURED):
        return State.UNMEASURED, ""
    if table.commit is None or not table.code:
        return State.MISSING, "a source names `command`, commit and code; see docs/scripts/docs_numbers.py"
    later = _later(root, table.commit, table.code)
    if later is None:
        return State.UNKNOWN, table.commit
    if not later:
        return State.CURRENT, table.commit
    commits = "1 later commit" if len(later) == 1 else f"{len(later)} later commits"
    return State.OLDER, f"{table.commit}; {commits} changed {' '.join(table.code)}, the last on {later[0]}"


def _later(root: Path, commit: str, code: list[str]) -> list[str] | None:
    """Dates of the commits after `commit` that change the paths, newest first; None if the commit is unknown."""
    command = ["git", "-C", str(root), "log", "--no-merges", "--format=%cs", f"{commit}..HEAD", "--", *code]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.split() if done.returncode == 0 else None


def main(root: Path = ROOT) -> int:
    """Prints a line for each table; returns 1 if one has no source."""
    counts: Counter[State] = Counter()
    for page in pages(root):
        for table in tables(page.read_text("utf-8"), page.relative_to(root).as_posix()):
            found, remark = state(table, root)
            counts[found] += 1
            print(f"{table.page}:{table.line}: {found.value}{': ' if remark else ''}{remark}")
    print(", ".join(f"{counts[found]} {found.value}" for found in State if counts[found]))
    return 1 if counts[State.MISSING] else 0


if __name__ == "__main__":
    sys.exit(main())
