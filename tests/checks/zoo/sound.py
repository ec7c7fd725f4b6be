"""Right methods of five kinds, written as an outsider would; the wrong ones derive from them and spoil one thing."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sadaflow import Mode
from sadaflow.accelerators import Run
from sadaflow.device.indexing import put, taken
from sadaflow.models import Seam, Site
from sadaflow.solvers import Solver, State


class EverySecond(Run):
    """Skips every other step but the first two and the last two; x0 on a line in log-SNR through two evaluations."""

    def __init__(self, solver: Solver, samples: int, accelerator: Any = None) -> None:
        super().__init__(samples)
        self.accelerator, self.nodes, self.steps = accelerator, solver.nodes, solver.n_evals
        self.past: list[tuple[int, Tensor]] = []

    def due(self, step: int) -> bool:
        return step % 2 == 1 and 3 <= step < self.steps - 2 and len(self.past) == 2

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.EXTRAPOLATED if self.due(step) else Mode.FULL] * self.samples

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        (new, a), (old, b) = self.past
        here, last, before = (self.nodes[index].log_snr for index in (step, new, old))
        weight = (here - last) / (last - before) if last > before else 0.0
        return a + weight * (a - b)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if not self.due(step):
            self.past = [(step, x0), *self.past][:2]


class Threshold(Run):
    """Skips a sample once if its own x0 has changed little over its last step; x0 is held."""

    limit = 0.04

    def __init__(self, solver: Solver, samples: int, accelerator: Any = None) -> None:
        super().__init__(samples)
        self.accelerator, self.nodes, self.steps = accelerator, solver.nodes, solver.n_evals
        self.modes = [Mode.FULL] * samples
        self.x0: Tensor | None = None

    def plan(self, step: int) -> Sequence[Mode]:
        return self.modes

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        assert self.x0 is not None
        return taken(self.x0, rows)

    def change(self, x0: Tensor) -> Tensor:
        assert self.x0 is not None
        return (x0 - self.x0).flatten(1).norm(dim=1) / x0.flatten(1).norm(dim=1)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if self.x0 is not None and 1 < step < self.steps - 3:
            calm = (self.change(x0) < self.limit).tolist()
            self.modes = self.decided(calm)
        else:
            self.modes = [Mode.FULL] * self.samples
        self.x0 = x0

    def decided(self, calm: list[bool]) -> list[Mode]:
        return [
            Mode.REUSED if quiet and mode is Mode.FULL else Mode.FULL
            for quiet, mode in zip(calm, self.modes, strict=True)
        ]


class BlockCache(Run):
    """Computes what a U-Net's outermost skip connection bypasses, or a transformer's trunk, at every other step."""

    def __init__(self, solver: Solver, samples: int, accelerator: Any = None) -> None:
        super().__init__(samples)
        self.accelerator, self.nodes, self.steps = accelerator, solver.nodes, solver.n_evals
        self.kept: dict[str, Tensor] = {}

    def due(self, step: int) -> bool:
        return step % 2 == 1 and step < self.steps - 2

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.CACHED if self.due(step) else Mode.FULL] * self.samples

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        return [Mode.CACHED] * len(rows)

    def caches(self, site: Site) -> bool:
        return site.name in ("deep.0", "blocks.2", "blocks.3")

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            if not self.caches(site):
                return fn(hidden, *args)
            if mode is Mode.CACHED:
                return self.stale(site, hidden, rows)
            output = fn(hidden, *args)
            self.kept[site.name] = output - hidden if site.kind == "block" else output
            return output

        return seam

    def stale(self, site: Site, hidden: Tensor, rows: Sequence[int]) -> Tensor:
        return hidden + self.kept[site.name] if site.kind == "block" else self.kept[site.name]


class OneBranch(Run):
    """Omits the negative branch of guidance at every other step, and holds its effect."""

    def __init__(self, solver: Solver, samples: int, accelerator: Any = None) -> None:
        super().__init__(samples)
        self.accelerator, self.nodes, self.steps = accelerator, solver.nodes, solver.n_evals
        self.difference = torch.empty(0)

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.CONDITIONAL if step % 2 == 1 and step < self.steps - 2 else Mode.FULL] * self.samples

    def learn_guidance(self, step: int, rows: Sequence[int], difference: Tensor) -> None:
        self.difference = difference

    def guidance(self, step: int, rows: Sequence[int]) -> Tensor:
        return self.difference


class Corrected(EverySecond):
    """Takes the skipped step before an evaluation again, with the mean of the two evaluated x0 around it."""

    def __init__(self, solver: Solver, samples: int, accelerator: Any = None) -> None:
        super().__init__(solver, samples, accelerator)
        self.solver = solver
        self.before: State | None = None

    def revise(self, state: State, x0: Tensor) -> State:
        if self.due(state.step):
            self.before = state
            return state
        before, self.before = self.before, None
        if before is None or not self.past or before.step + 1 != state.step:
            return state
        return self.solver.step(before, (x0 + self.past[0][1]) / 2)


def rows_of(held: Tensor, x0: Tensor, rows: Sequence[int]) -> Tensor:
    """A copy of `held` with the rows of x0."""
    fresh = held.clone()
    put(fresh, rows, taken(x0, rows))
    return fresh
