"""Writes the table of the zoo of accelerators into docs/checks-accelerators.md.

    python docs/scripts/tabulate_zoo.py           # writes the table
    python docs/scripts/tabulate_zoo.py --check   # fails if the page's table is another
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "checks-accelerators.md"
BEGIN, END = "<!-- zoo: begin -->\n", "<!-- zoo: end -->\n"


def table() -> str:
    """The Markdown table of all wrong accelerators, by the law that catches each."""
    sys.path[:0] = [str(ROOT / "tests" / "checks"), str(ROOT / "tests")]
    from zoo import WRONG

    lines = ["| law | wrong accelerator | mistake |", "|---|---|---|"]
    lines += [f"| {one.law} | `{one.name}` | {one.mistake} |" for one in sorted(WRONG, key=lambda one: one.law)]
    return "\n".join(lines) + "\n"


def with_table(page: str, rows: str) -> str:
    """The page with its table replaced."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + rows + END + rest.partition(END)[2]


if __name__ == "__main__":
    text = PAGE.read_text("utf-8")
    fresh = with_table(text, table())
    if "--check" in sys.argv and fresh != text:
        raise SystemExit(f"the table of {PAGE.name} is stale: run python docs/scripts/tabulate_zoo.py")
    PAGE.write_text(fresh, "utf-8")
