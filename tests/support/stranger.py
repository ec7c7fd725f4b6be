"""A stranger's package: a solver, an accelerator and a family, known to the library by its entry points alone."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sadaflow.accelerators.registry import REGISTRY as ACCELERATORS
from sadaflow.families import REGISTRY as FAMILIES
from sadaflow.loading.embedded import embedded
from sadaflow.solvers.registry import REGISTRY as SOLVERS

SOLVER = """
from dataclasses import dataclass
from typing import ClassVar

from sadaflow.solvers import GridSolver, State


@dataclass(frozen=True, eq=False)
class Extrapolated(GridSolver):
    share: float = 0.5
    order: ClassVar[int] = 2

    def step(self, state, x0):
        here, there = self.grid.points[state.step : state.step + 2]
        middle = x0
        if state.history and there.sigma > 0:
            past = self.grid.points[state.step - 1]
            ratio = (there.log_snr - here.log_snr) / (here.log_snr - past.log_snr)
            middle = x0 + self.share * ratio * (x0 - state.history[0])
        keep = there.sigma / here.sigma
        return State(keep * state.x + (there.alpha - keep * here.alpha) * middle, state.step + 1, (x0,))
"""
ACCELERATOR = """
from dataclasses import dataclass

from sadaflow.accelerators import Mode, Run


@dataclass(frozen=True)
class EveryOther:
    first: int = 2

    def begin(self, solver, shape, *, seams):
        return _Run(self.first, solver.n_evals, shape[0])


class _Run(Run):
    def __init__(self, first, steps, samples):
        super().__init__(samples)
        self.skipped = range(first, steps - 1, 2)

    def plan(self, step):
        return [Mode.REUSED if step in self.skipped else Mode.FULL] * self.samples

    def estimate(self, step, x, rows):
        return self.x0[rows]

    def observe(self, step, x, x0, y, x_next):
        self.x0 = x0
"""
FAMILY = """
from sadaflow.families import StableDiffusion


class Sketch(StableDiffusion):
    default_guidance = 3.0
"""
ENTRY_POINTS = """
[sadaflow.solvers]
stranger-2m = stranger.solver:Extrapolated
broken = stranger.missing:Nothing
[sadaflow.accelerators]
stranger-other = stranger.accelerator:EveryOther
[sadaflow.families]
StrangerSketchPipeline = stranger.family:Sketch
"""


def install(site: Path, entry_points: str = ENTRY_POINTS, name: str = "stranger") -> Path:
    """Writes the package and its dist-info into a folder, as pip does; returns the folder."""
    package, info = site / name, site / f"{name}_sampling-1.2.dist-info"
    for folder in (package, info):
        folder.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for module, text in (("solver", SOLVER), ("accelerator", ACCELERATOR), ("family", FAMILY)):
        (package / f"{module}.py").write_text(text)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-sampling\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entry_points)
    return site


def sketch_checkpoint(folder: Path) -> Path:
    """A copy of tiny-sd whose model_index.json names the stranger's pipeline class."""
    shutil.copytree(embedded("tiny-sd"), folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "StrangerSketchPipeline"
    del index["_sadaflow"]["guidance"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@contextmanager
def registries_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reads entry points anew within the block; what is registered within it is forgotten after it."""
    registries = (SOLVERS, ACCELERATORS, FAMILIES)
    for registry in registries:
        monkeypatch.setattr(registry, "_added", dict(registry._added))
        registry.reread()
    yield
    monkeypatch.undo()
    for registry in registries:
        registry.reread()
