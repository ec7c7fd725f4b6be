"""Right accelerators of many kinds, written as an outsider would."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sadaflow import Mode
from sadaflow.accelerators import Accelerator, ForwardingRun, Run
from sadaflow.device.indexing import taken
from sadaflow.device.readback import Readback
from sadaflow.models import Seam, call_through
from sadaflow.solvers import Solver, State

from .sound import BlockCache, Corrected, EverySecond, OneBranch, Threshold
from .specimen import Made


@dataclass(frozen=True)
class Duck:
    """An accelerator that knows nothing of the library's classes but `Mode`; holds x0 at every third step."""

    every: int = 3

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Any:
        return _Duck(self.every, solver.n_evals, shape[0])


class _Duck:
    def __init__(self, every: int, steps: int, samples: int) -> None:
        self.every, self.steps, self.samples = every, steps, samples
        self.held: Tensor | None = None

    def plan(self, step: int) -> Sequence[Mode]:
        skips = step % self.every == self.every - 1 and step < self.steps - 1
        return (Mode.REUSED if skips else Mode.FULL,) * self.samples

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        assert self.held is not None
        return self.held.clone()

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        return call_through

    def revise(self, state: State, x0: Tensor) -> State:
        return state

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self.held = x0


@dataclass(frozen=True)
class Late:
    """Wraps another accelerator, and keeps it from acting in the first third of the steps."""

    inner: Accelerator

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        return _Late(self.inner.begin(solver, shape, seams=seams), shape[0], solver.n_evals // 3)


class _Late(ForwardingRun):
    def __init__(self, inner: Any, samples: int, start: int) -> None:
        super().__init__(inner, samples)
        self.start = start

    def plan(self, step: int) -> Sequence[Mode]:
        plan = self.inner.plan(step)
        return plan if step >= self.start else [Mode.FULL] * self.samples


class Lagged(Threshold):
    """Decides by the velocity, with a criterion that is read one step later, so that the host waits for nothing new."""

    def __init__(self, solver: Solver, samples: int, accelerator: Any = None) -> None:
        super().__init__(solver, samples, accelerator)
        self.y: Tensor | None = None
        self.pending: Readback | None = None

    def plan(self, step: int) -> Sequence[Mode]:
        if self.pending is not None and step < self.steps - 2:
            self.modes = self.decided([change < 0.05 for change in self.pending.read()])
        else:
            self.modes = [Mode.FULL] * self.samples
        return self.modes

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if self.y is not None:
            before = self.y.flatten(1)
            self.pending = Readback((y.flatten(1) - before).norm(dim=1) / before.norm(dim=1))
        self.y, self.x0 = y, x0


class HeldNoise(EverySecond):
    """Holds eps, and takes x0 from it with the node's own alpha and sigma."""

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        node = self.nodes[step]
        return (x - node.sigma * self.eps) / max(node.alpha, 1e-3)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        super().observe(step, x, x0, y, x_next)
        node = self.nodes[step]
        self.eps = (x - node.alpha * x0) / node.sigma


class Patient(Threshold):
    """Skips up to two steps in a row, each sample with its own count."""

    def __init__(self, solver: Solver, samples: int, accelerator: Any = None) -> None:
        super().__init__(solver, samples, accelerator)
        self.skips = [0] * samples

    def decided(self, calm: list[bool]) -> list[Mode]:
        modes = [Mode.REUSED if c and n < 2 else Mode.FULL for c, n in zip(calm, self.skips, strict=True)]
        self.skips = [n + 1 if m is Mode.REUSED else 0 for m, n in zip(modes, self.skips, strict=True)]
        return modes

    def change(self, x0: Tensor) -> Tensor:
        return super().change(x0) * (1 + torch.tensor(0.0, dtype=x0.dtype))

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        assert self.x0 is not None
        return taken(self.x0, rows)


class Plain:
    """Skips nothing."""

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        return Run(shape[0])


RIGHT: dict[str, tuple[Callable[[], Accelerator], dict[str, Any]]] = {
    "uniform, on a line in log-SNR": (lambda: Made(EverySecond), {}),
    "threshold on the change of x0": (lambda: Made(Threshold), {}),
    "threshold, two steps in a row": (lambda: Made(Patient), {}),
    "threshold on the velocity, read late": (lambda: Made(Lagged), {}),
    "blocks from a cache": (lambda: Made(BlockCache), {}),
    "guidance omitted": (lambda: Made(OneBranch), {}),
    "skipped steps corrected": (lambda: Made(Corrected), {}),
    "held noise": (lambda: Made(HeldNoise), {}),
    "no base class": (Duck, {}),
    "wrapping": (lambda: Late(Made(Threshold)), {}),
    "none": (Plain, {"excuse": ("*",)}),
}
"""Right accelerators by kind, with the arguments of `check_accelerator` that they need."""
