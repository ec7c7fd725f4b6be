"""Writes docs/layouts.md: the table of layouts, with the largest difference to Diffusers of those that load.

    python docs/scripts/tabulate_layouts.py            measures, and writes the page
    python docs/scripts/tabulate_layouts.py --keep     writes it after a change of rows, with the numbers that it has
"""

import argparse
from pathlib import Path

from sadaflow.loading.layouts.row import Layout
from sadaflow.loading.layouts.table import LAYOUTS

PAGE = Path(__file__).parents[1] / "layouts.md"

HEAD = """# Layouts of weight files

Every layout that is known stands in one table in the code (`sadaflow/loading/layouts/`), which loading and
`sadaflow inspect FILE` read; a file is of the first row that it matches. This page is written by
`python docs/scripts/tabulate_layouts.py`.

## Loaded

The difference is the largest one to Diffusers 0.42 on small random checkpoints, as a part of the largest number (the
script `measure_layouts.py` says how). Adapters are compared in [loading.md](loading.md#adapters); a file can be of
several of their rows.

| layout | tensor names, for adapters an example | examples | load by | difference |
|---|---|---|---|---|
"""
_BESIDE = ", beside a checkpoint"
FP8 = """
In each of them weights may be float16, bfloat16, float32 or fp8. Scaled fp8 weights (`scale_weight` or `weight_scale`
beside each weight) are multiplied by their scales in float32; the difference is {:.1e}.

## Refused

| layout | tensor names, for adapters an example | examples | reason |
|---|---|---|---|
"""


def page(worst: dict[tuple[str, str], float], fp8: float) -> str:
    rows = []
    for row in LAYOUTS:
        if row.refused is None:
            found = worst.get((row.name, row.prefix))
            cell = "-" if found is None else f"{found:.1e}"
            use = row.use.removesuffix(_BESIDE)
            rows.append(f"| {row.name} | {_signs(row)} | {row.source} | `{use}` | {cell} |")
    text = HEAD + "\n".join(rows) + "\n" + FP8.format(fp8)
    refused = [row for row in LAYOUTS if row.refused is not None]
    return text + "\n".join(f"| {r.name} | {_signs(r)} | {r.source} | {r.refused} |" for r in refused) + "\n"


def _signs(row: Layout) -> str:
    return ", ".join(f"`{pattern}`" for pattern in row.signs)


def numbers(text: str) -> tuple[dict[tuple[str, str], float], float]:
    """The numbers of a page that `page` has written."""
    found = {}
    for row in LAYOUTS:
        line = next((line for line in text.splitlines() if line.startswith(f"| {row.name} | {_signs(row)} |")), "")
        cell = line.rstrip("| ").rpartition("|")[2].strip()
        if row.refused is None and cell not in ("", "-"):
            found[row.name, row.prefix] = float(cell)
    return found, float(text.partition("the difference is ")[2].partition("\n")[0].rstrip("."))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true")
    if parser.parse_args().keep:
        measured = numbers(PAGE.read_text("utf-8"))
    else:
        from measure_layouts import measure

        measured = measure()
    PAGE.write_text(page(*measured), "utf-8")


if __name__ == "__main__":
    main()
