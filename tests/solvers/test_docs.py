"""The worked example of docs/solvers.md runs, and its table names every solver."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from sadaflow.solvers import SOLVERS, make_solver
from sadaflow.solvers.checks.problems import GRIDS, clean, final_x, mixture, unit_noise

PAGE = (Path(__file__).parents[2] / "docs" / "solvers.md").read_text("utf-8")


def test_the_worked_example_passes_its_own_examination(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "class Extrapolated" in block)
    assert len(example.strip().splitlines()) <= 32
    module = ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)  # where torch.compile looks names up
    exec(compile(example, "docs/solvers.md", "exec"), module.__dict__)  # noqa: S102
    assert capsys.readouterr().out.startswith("Extrapolated: ")
    solver_class = module.Extrapolated
    for grid in (GRIDS["vp-karras"](9), clean(GRIDS["flow-shifted"](20))):
        own, known = solver_class(grid), make_solver("dpmpp2m", grid, lower_order_final=False)  # type: ignore[operator]
        denoise = mixture().denoiser(known)
        torch.testing.assert_close(final_x(own, denoise, unit_noise(3)), final_x(known, denoise, unit_noise(3)))


def test_the_table_names_every_solver_with_its_class_and_evaluations() -> None:
    rows = re.findall(r"^\| (`.*?`) \| `(\w+)` \| [^|]* \| ([^|]*) \|", PAGE, re.M)
    listed = {name: cls for names, cls, _ in rows for name in re.findall(r"`([^`]+)`", names)}
    assert set(listed) == set(SOLVERS)
    aliases = {"dpmpp1"}  # a DPMpp that is Euler
    for name, cls in listed.items():
        assert SOLVERS[name].solver.__name__ == cls or name in aliases
    n = 12
    for names, _, needs in rows:
        counts = [eval(part.replace("N", "*n").lstrip("*"), {"n": n}) for part in needs.strip().split(", ")]  # noqa: S307
        for index, name in enumerate(re.findall(r"`([^`]+)`", names)):
            solver = make_solver(name, clean(GRIDS["vp-karras"](n)))
            assert solver.n_evals == counts[min(index, len(counts) - 1)], name
