"""The notebooks run as they are, and what is stored of their outputs is small."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sadaflow.accelerators.registry import REGISTRY as ACCELERATORS
from sadaflow.solvers.registry import REGISTRY as SOLVERS

FOLDER = Path(__file__).resolve().parents[1] / "docs/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == kind]


def run(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that a notebook has defined after all cells have run in order; what it registers is forgotten."""
    for registry in (SOLVERS, ACCELERATORS):
        monkeypatch.setattr(registry, "_added", dict(registry._added))
    module = ModuleType(f"notebook_{path.stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclasses look names up
    module.__dict__["display"] = lambda shown: shown._repr_html_()
    for number, cell in enumerate(cells(path, "code")):
        exec(compile("".join(cell["source"]), f"{path.name}[{number}]", "exec"), module.__dict__)  # noqa: S102
    return module.__dict__


def test_there_are_five() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_its_outputs(path: Path) -> None:
    assert path.stat().st_size < 300_000
    assert sum(bool(cell["outputs"]) for cell in cells(path, "code")) >= len(cells(path, "code")) // 2
    assert not [one for cell in cells(path, "code") for one in cell["outputs"] if one["output_type"] == "error"]


def test_first_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(NOTEBOOKS[0], monkeypatch)
    assert sum(found["fast"].stats.nfe) < 0.6 * sum(found["plain"].stats.nfe)
    assert found["page"].stat().st_size > 50_000


def test_write_a_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(NOTEBOOKS[1], monkeypatch)
    assert found["report"].passed
    assert 3.4 < found["errors"][80] / found["errors"][160] < 4.6  # second order


def test_write_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(NOTEBOOKS[2], monkeypatch)
    assert all(10 < nfe < 20 for nfe in found["out"].stats.nfe)


def test_your_own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(NOTEBOOKS[3], monkeypatch)
    assert float((found["result"].x.std() - 0.5).abs()) < 0.02 if "result" in found else False
    assert any("cached" in row for row in found["cached"].stats.modes)


def test_compare_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {name: mean for _, mean, _, name in run(NOTEBOOKS[4], monkeypatch)["rows"]}
    assert rows["auto, 2x"] > rows["10 steps"]
