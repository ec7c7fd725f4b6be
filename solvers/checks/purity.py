"""Laws on purity: `step` depends on its arguments alone and changes nothing but what it returns."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base import Solver
from .examination import SAMPLES, Examination, data_x0, end_of, parts, same, trajectory
from .guard import advance, evaluations, follow
from .problems import mixture, unit_noise
from .report import Law


def purity(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that `step` is deterministic and keeps its arguments, and that trajectories do not meet."""
    solver, where = examination.make(examination.grids[name](8)), f"[{name}]"
    again = kept = True
    state = solver.start(unit_noise(SAMPLES))
    for _ in range(evaluations(solver)):
        x0 = data_x0(solver, state)
        given = [*parts(state), x0]
        before = [part.clone() for part in given]
        first = advance(solver, state, x0)
        copied = first.x.clone()
        second = advance(solver, state, x0)
        again &= torch.equal(copied, second.x) and torch.equal(first.x, copied)
        solver.velocity(state.x, x0, state.step)
        kept &= all(torch.equal(a, b) for a, b in zip(before, given, strict=True))
        state = second
    yield Law("step repeats", where, "equal" if again else "a different x", "the same x from the same state", again)
    yield Law("step keeps inputs", where, "kept" if kept else "changed", "state and x0 unchanged", kept)


def forks(examination: Examination, name: str) -> Iterator[Law]:
    """Checks both branches of a fork, against solvers that know nothing of the other branch."""
    grid, where = examination.grids[name](8), f"[{name}]"
    alone = [examination.make(grid), examination.make(grid)]
    ends = [_branch(solver, shift) for solver, shift in zip(alone, (0.0, 0.3), strict=True)]
    solver = examination.make(grid)
    half = evaluations(solver) // 2
    state = solver.start(unit_noise(SAMPLES))
    for _ in range(half):
        state = advance(solver, state, data_x0(solver, state))
    branches = [state, state]
    for _ in range(half, evaluations(solver)):
        x0 = [data_x0(solver, branch) + shift for branch, shift in zip(branches, (0.0, 0.3), strict=True)]
        branches = [advance(solver, branch, own) for branch, own in zip(branches, x0, strict=True)]
    equal = [torch.equal(branch.x, end) for branch, end in zip(branches, ends, strict=True)]
    shown = "equal" if all(equal) else f"branch {equal.index(False) + 1} disturbed"
    yield Law("fork", where, shown, "independent branches", all(equal))


def _branch(solver: Solver, shift: float) -> Tensor:
    """x at the end of a run whose x0 are shifted in its second half."""
    half, denoise = evaluations(solver) // 2, mixture().denoiser(solver)
    moved = follow(solver, solver.start(unit_noise(SAMPLES)), lambda x, step: denoise(x, step) + shift * (step >= half))
    return list(moved)[-1][2].x


def object_state(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that a solver object holds nothing of its runs: steps are taken again backwards, after another run."""
    solver, where = examination.make(examination.grids[name](8)), f"[{name}]"
    steps = trajectory(solver, unit_noise(SAMPLES))
    before = _snapshot(solver)
    other = unit_noise(SAMPLES, seed=1)
    ends = [end_of(solver, noise) for noise in (other.float(), other)]
    changed = [key for key, value in _snapshot(solver).items() if not _equal(value, before.get(key))]
    wrong = [state.step for state, x0, after in reversed(steps) if not same(solver.step(state, x0), after)]
    shown = f"attributes {changed} changed" if changed else f"steps {wrong} differ" if wrong else "nothing kept"
    yield Law("object", where, shown, "no state in the solver object", not (changed or wrong))
    fresh = [end_of(examination.make(examination.grids[name](8)), noise) for noise in (unit_noise(SAMPLES), other)]
    equal = torch.equal(fresh[0], end_of(solver, unit_noise(SAMPLES))) and torch.equal(fresh[1], ends[1])
    yield Law("object", f"[{name}, new]", "equal" if equal else "a different x", "the same x from a new solver", equal)


def _snapshot(solver: Any) -> dict[str, Any]:
    """A copy of the attributes of a solver that can be copied, except the noise source."""
    found: dict[str, Any] = {}
    for key, value in getattr(solver, "__dict__", {}).items():
        try:
            found[key] = copy.deepcopy(value)
        except Exception:  # what cannot be copied is judged by the steps alone
            continue
    return found


def _equal(a: Any, b: Any) -> bool:
    """Whether two values have equal tensors, arrays, numbers and containers; other objects count as equal."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple, set)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, (int, float, str, bytes, bool, complex)):
        return bool(a == b) or a != a
    return True


def _numpy_words() -> Any:
    """A copy of the words of NumPy's global generator."""
    state: Any = np.random.get_state()
    return state[1].copy()


def generators(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that runs neither use nor move the global random generators, nor the default dtype."""
    kept = torch.get_rng_state(), random.getstate(), np.random.get_state(), torch.get_default_dtype()
    grid = examination.grids[name](6)
    try:
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        marks = torch.get_rng_state(), random.getstate(), _numpy_words()
        first = end_of(examination.make(grid), unit_noise(SAMPLES))
        moved = not (torch.equal(marks[0], torch.get_rng_state()) and marks[1] == random.getstate()
                     and np.array_equal(marks[2], _numpy_words()))  # fmt: skip
        torch.manual_seed(2)
        random.seed(2)
        np.random.seed(2)
        second = end_of(examination.make(grid), unit_noise(SAMPLES))
        torch.set_default_dtype(torch.float64)
        third = end_of(examination.make(grid), unit_noise(SAMPLES))
    finally:
        torch.set_rng_state(kept[0])
        random.setstate(kept[1])
        np.random.set_state(kept[2])
        torch.set_default_dtype(kept[3])
    used = moved or not torch.equal(first, second)
    shown = "moved" if moved else "used" if used else "untouched"
    yield Law("global generators", f"[{name}]", shown, "untouched", not used)
    off = float((first - third).abs().max())
    yield Law("default dtype", f"[{name}]", f"off by {off:.1e}", "the same x", off == 0)
