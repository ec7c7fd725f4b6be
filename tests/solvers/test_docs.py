"""The program of docs/write-a-solver.md runs, and the table of docs/solvers.md names every solver."""

import re
from collections.abc import Iterator

import pytest
import torch

from sadaflow.solvers import SOLVERS, make_solver
from sadaflow.solvers.checks.problems import GRIDS, clean, final_x, mixture, unit_noise
from support.pages import lines, program, read_page, run_program, stated_lines
from support.stranger import registries_restored


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with registries_restored(monkeypatch):
        yield


def test_the_program_passes_its_own_examination(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = re.findall(r"```python\n(.*?)```", read_page("write-a-solver.md"), re.S)[0]
    assert len(example.strip().splitlines()) <= 35
    assert stated_lines("write-a-solver.md") == lines(program("write-a-solver.md"))
    module = run_program("write-a-solver.md", monkeypatch)
    assert capsys.readouterr().out.startswith("Extrapolated: ")
    for grid in (GRIDS["vp-karras"](9), clean(GRIDS["flow-shifted"](20))):
        own, known = module.Extrapolated(grid), make_solver("dpmpp2m", grid, lower_order_final=False)
        denoise = mixture().denoiser(known)
        torch.testing.assert_close(final_x(own, denoise, unit_noise(3)), final_x(known, denoise, unit_noise(3)))


def test_the_table_names_every_solver_with_its_class_and_evaluations() -> None:
    rows = re.findall(r"^\| (`.*?`) \| `(\w+)` \| [^|]* \| ([^|]*) \|", read_page("solvers.md"), re.M)
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
