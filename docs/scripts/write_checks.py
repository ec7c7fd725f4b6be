"""Writes the measured tables of docs/checks.md: starts near alpha = 0, the zoo, and seconds.

    PYTHONPATH=tests python docs/scripts/write_checks.py --page docs/checks.md [--table noise]

Tables stand between marks; the line below each names its source, as docs/scripts/docs_numbers.py reads it.
"""

import argparse
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from sadaflow.solvers import SOLVERS, draws_noise, make_solver
from sadaflow.solvers.checks import examine_solver
from sadaflow.solvers.checks.accuracy import errors, euler_error
from sadaflow.solvers.checks.problems import NOISE, independent, normal
from support.solver_zoo import RIGHT, WRONG

TIMED = ("euler", "dpmpp2m", "unipc", "heun", "ab4", "euler-ancestral")


def noise() -> str:
    """Largest error of every solver on every grid that starts at alpha = 0 or near it."""
    data, start = independent(6), normal(4, 6)
    lines = [f"| solver | {' | '.join(NOISE)} |", "|---" * (len(NOISE) + 1) + "|"]
    for name in SOLVERS:
        if not draws_noise(name):
            found = [max(errors(make_solver(name, grid(24)), data, start)) for grid in NOISE.values()]
            lines.append(f"| `{name}` | {' | '.join(f'{error:.1e}' for error in found)} |")
    euler = [euler_error(grid(24), data, start) for grid in NOISE.values()]
    assert all(error < 1 for error in euler)
    return "\n".join(lines)


def zoo() -> str:
    """The wrong solvers with the law that catches each, and the right ones."""
    lines = [f"{len(WRONG)} wrong solvers:", "", "| law | mistake | solver |", "|---|---|---|"]
    lines += [f"| {case.law} | {case.mistake} | `{name}` |"
              for name, case in sorted(WRONG.items(), key=lambda item: item[1].law)]  # fmt: skip
    lines += ["", f"{len(RIGHT)} right solvers, all accepted: " + "; ".join(case.kind for case in RIGHT.values()) + "."]
    return "\n".join(lines)


def seconds() -> str:
    """Processor seconds of an examination by kind of solver."""
    examine_solver(lambda grid: make_solver("euler", grid))  # imports torch.compile and integrates the references
    lines = ["| solver | results | seconds |", "|---|---|---|"]
    for name in TIMED:
        stochastic, began = draws_noise(name), time.process_time()
        report = examine_solver(
            lambda grid, noise=None, name=name: make_solver(name, grid, **({"noise": noise} if noise else {})),
            stochastic=stochastic,
        )
        lines.append(f"| `{name}` | {len(report.laws)} | {time.process_time() - began:.1f} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {"noise": noise, "zoo": zoo, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, required=True)
    parser.add_argument("--table", action="append", choices=sorted(TABLES))
    chosen = parser.parse_args()
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    text = chosen.page.read_text("utf-8")
    for name in chosen.table or TABLES:
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        command = f"python docs/scripts/write_checks.py --page docs/checks.md --table {name}"
        made = f"{begin}{TABLES[name]()}\n\nSource: `{command}`, commit {commit}, code `solvers`.\n{end}"
        text, count = re.subn(re.escape(begin) + ".*?" + re.escape(end), lambda _, made=made: made, text, flags=re.S)
        assert count == 1, f"{chosen.page} has no marks of the table {name!r}"
    chosen.page.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
