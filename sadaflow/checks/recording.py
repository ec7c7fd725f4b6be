"""Records what an accelerator is given, what it returns, and how much memory it holds."""

import gc
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import Solver, State

from ..accelerators.base import Accelerator, Mode, Run
from ..accelerators.forwarding import ForwardingRun


@dataclass
class Watched:
    """Wraps an accelerator and records what its runs are given and what they return.

    Attributes:
        accelerator: The wrapped accelerator.
        measure_memory: Whether to measure the memory that runs hold.
        entered: The states at each step before `revise`.
        left: The states at each step after it.
        given: Each tensor that the run was given, beside a copy made at that time.
        estimates: Each estimate, beside the states it is for.
        bytes_held: Most bytes of tensors that the run held after a step.
        settings_changed: The global settings of torch that a method of the run has changed, with the method.
        numbers: Whether the run declares a number of a trajectory as what decided (see `Explanation`).
    """

    accelerator: Accelerator
    measure_memory: bool = False
    entered: dict[int, Tensor] = field(default_factory=dict)
    left: dict[int, Tensor] = field(default_factory=dict)
    given: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    estimates: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    bytes_held: int = 0
    settings_changed: list[str] = field(default_factory=list)
    numbers: bool = False

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Run:
        """Starts a run of the accelerator and record it."""
        return _WatchedRun(self, self.accelerator.begin(solver, shape, seams=seams), solver, shape[0])

    def keep(self, *tensors: Tensor | None) -> None:
        """Records tensors that the run is given."""
        self.given += [(tensor, tensor.clone()) for tensor in tensors if tensor is not None]

    @property
    def changed(self) -> int:
        """Number of tensors that have changed since the run was given them."""
        return sum(not torch.equal(tensor, before) for tensor, before in self.given)


class _WatchedRun(ForwardingRun):
    def __init__(self, notes: Watched, run: Run, solver: Solver, samples: int) -> None:
        super().__init__(run, samples)
        self.notes = notes
        self.solver_parts = set(reachable(solver)) if notes.measure_memory else set()
        self.settings = global_settings()

    def plan(self, step: int) -> Sequence[Mode]:
        modes = self.inner.plan(step)
        if len(modes) != self.samples or not all(isinstance(mode, Mode) for mode in modes):
            raise TypeError(f"plan({step}) is {modes!r}, not one Mode for each of {self.samples} samples")
        self._unchanged("plan")
        return list(modes)

    def estimate(self, step: int, x: Tensor, rows: Sequence[int]) -> Tensor:
        self.notes.keep(x)
        x0 = self.inner.estimate(step, x, rows)
        like = x[list(rows)]
        if not isinstance(x0, Tensor) or x0.shape != like.shape:
            found = f"shape {tuple(x0.shape)}" if isinstance(x0, Tensor) else repr(type(x0))
            raise TypeError(f"estimate({step}, x, {list(rows)}) returned {found}, not a tensor of {tuple(like.shape)}")
        self.notes.estimates.append((x0, like))
        self._unchanged("estimate")
        return x0

    def revise(self, state: State, x0: Tensor) -> State:
        self.notes.keep(state.x, *state.history, state.anchor, x0)
        self.notes.entered[state.step] = state.x.clone()
        revised = self.inner.revise(state, x0)
        if not isinstance(revised, State) or revised.step != state.step or revised.x.shape != state.x.shape:
            raise TypeError(f"revise at step {state.step} returned {_described(revised)}, not a State of this step")
        self.notes.left[state.step] = revised.x.clone()
        self._unchanged("revise")
        return revised

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        self.notes.keep(x, x0, y, x_next)
        if self.capabilities.explains:
            self.notes.numbers |= any(value == value for value in self.inner.explain(step).values)
        self.inner.observe(step, x, x0, y, x_next)
        self._unchanged("observe")
        if self.notes.measure_memory:
            held = tensor_bytes(reachable(self.inner, self.solver_parts).values())
            self.notes.bytes_held = max(self.notes.bytes_held, held)

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        found = self.inner.carried_out(step, rows)
        if len(found) != len(rows) or not set(found) <= {Mode.FULL, Mode.CACHED}:
            raise TypeError(f"carried_out({step}, {list(rows)}) is {found!r}, not FULL or CACHED for each")
        return found

    def learn_guidance(self, step: int, rows: Sequence[int], difference: Tensor) -> None:
        self.notes.keep(difference)
        self.inner.learn_guidance(step, rows, difference)
        self.difference = difference

    def guidance(self, step: int, rows: Sequence[int]) -> Tensor:
        difference = self.inner.guidance(step, rows)
        self.notes.estimates.append((difference, self.difference[:1].expand(len(rows), *self.difference.shape[1:])))
        return difference

    def _unchanged(self, method: str) -> None:
        settings = global_settings()
        self.notes.settings_changed += [
            f"{method} sets {name} to {value}" for name, value in settings.items() if value != self.settings[name]
        ]
        self.settings = settings


def global_settings() -> dict[str, Any]:
    """The settings of torch that hold for the whole process or thread."""
    return {
        "grad mode": torch.is_grad_enabled(),
        "the default dtype": torch.get_default_dtype(),
        "the number of threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
    }


def _described(revised: object) -> str:
    if not isinstance(revised, State):
        return repr(type(revised))
    return f"a State of step {revised.step} with x of shape {tuple(revised.x.shape)}"


def reachable(start: object, without: set[int] | None = None) -> dict[int, object]:
    """All objects that `start` keeps alive, by id, except those in `without`, classes, modules and globals."""
    found: dict[int, object] = {}
    waiting: list[object] = [start]
    while waiting:
        item = waiting.pop()
        if id(item) in found or id(item) in (without or ()) or isinstance(item, type | ModuleType):
            continue
        found[id(item)] = item
        if isinstance(item, FunctionType):
            waiting += [item.__closure__, item.__defaults__, item.__dict__]
        elif isinstance(item, MethodType):
            waiting += [item.__self__, item.__func__]
        elif not isinstance(item, Tensor):
            waiting += gc.get_referents(item)
    return found


def tensor_bytes(objects: Any) -> int:
    """Bytes of the storages of the tensors and arrays among `objects`, each counted once."""
    sizes: dict[int, int] = {}
    for item in objects:
        if isinstance(item, Tensor):
            sizes[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
        elif isinstance(item, np.ndarray):
            sizes[item.ctypes.data] = item.nbytes
    return sum(sizes.values())


def living_bytes() -> int:
    """Bytes of all tensors of the process."""
    gc.collect()
    return tensor_bytes(item for item in gc.get_objects() if type(item) is Tensor)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Context manager: seeds the global generators of torch, numpy and Python, and restores them at the end."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def drawn_state() -> tuple[Any, ...]:
    """The states of the global generators."""
    return (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]
