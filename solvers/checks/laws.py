"""The laws that a solver is examined by, each measured on exact denoisers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor

from ..base import Solver, State
from ..exact import GaussianMixture
from ..grid import Grid
from ..noise import NoiseSource, SeededNoise
from ..reference import reference_solution
from .problems import clean, exact_start, final_x, finish, mixture, tilted_gaussian, unit_noise
from .report import Law

Factory = Callable[..., Solver]

_SAMPLES: Final = 5
_STEPS: Final = (48, 96, 192)
_STEPS_ABOVE_2: Final = (96, 192, 384)  # methods of higher order show theirs later
_ROUNDING: Final = 1e-11  # errors below it say nothing about an order


DATA: Final[dict[str, Callable[[], GaussianMixture]]] = {"mixture": mixture, "gaussian": tilted_gaussian}


@cache
def _reference(which: str, name: str, make: Callable[[int], Grid]) -> Tensor:
    grid = make(2)
    return reference_solution(DATA[which]().x0, grid, unit_noise(_SAMPLES) * grid.start_scale)


@dataclass(frozen=True)
class Examination:
    """The laws, one method each, on solvers made by `factory`."""

    factory: Factory
    grids: dict[str, Callable[[int], Grid]]
    stochastic: bool
    seeds: tuple[int, ...] = field(default=tuple(range(_SAMPLES)))

    def make(self, grid: Grid, noise: NoiseSource | None = None) -> Solver:
        if not self.stochastic:
            return self.factory(grid)
        return self.factory(grid, SeededNoise(self.seeds) if noise is None else noise)

    def order(
        self, name: str, which: str, order: float | None, band: float, warm_up: int, counts: tuple[int, ...] | None
    ) -> Law:
        """The slope of the error against the number of steps, over DOP853."""
        data, exact = DATA[which](), _reference(which, name, self.grids[name])
        claimed = float(self.make(self.grids[name](4)).order if order is None else order)
        counts = counts or (_STEPS if claimed <= 2 else _STEPS_ABOVE_2)
        errors = []
        for steps in counts:
            solver = self.make(self.grids[name](steps))
            state = exact_start(solver, data, unit_noise(_SAMPLES), warm_up)
            x = finish(solver, data.denoiser(solver), state)
            errors.append(float((x - exact).square().mean().sqrt()))
        seen = [(steps, error) for steps, error in zip(counts, errors, strict=True) if error > _ROUNDING]
        shown = f"[{name}, {which}]"
        if not all(math.isfinite(error) for error in errors):
            return Law("order", shown, f"errors {errors}", f"{claimed:g}", False)
        if len(seen) < 2:
            return Law("order", shown, f"errors below {_ROUNDING:g}", f"{claimed:g} or exact", True)
        (few, large), (many, small) = seen[-2:]
        slope = math.log(large / small) / math.log(many / few)
        fits = slope > claimed - band and (which == "gaussian" or slope < claimed + band)
        expected = f"{claimed:g} {'or more' if which == 'gaussian' else f'+- {band:g}'}"
        return Law("order", shown, f"{slope:.2f} (errors {', '.join(f'{e:.1e}' for e in errors)})", expected, fits)

    def structure(self, name: str) -> list[Law]:
        """Nodes, evaluations and start."""
        grid = self.grids[name](6)
        solver = self.make(grid)
        schedule, where = grid.schedule, f"[{name}]"
        t = torch.tensor([node.t for node in solver.nodes], dtype=torch.float64)
        alpha, sigma = (
            torch.tensor([getattr(node, key) for node in solver.nodes], dtype=torch.float64)
            for key in ("alpha", "sigma")
        )
        off = max(float((schedule.alpha(t) - alpha).abs().max()), float((schedule.sigma(t) - sigma).abs().max()))
        state = solver.start(unit_noise(_SAMPLES))
        evaluations = 0
        while state.step < solver.n_evals and evaluations <= 10 * len(solver.nodes):
            state = solver.step(state, data_x0(solver, state))
            evaluations += 1
        laws = [
            Law("nodes on schedule", where, f"off by {off:.1e}", "0", off < 1e-9),
            Law("evaluations", where, f"{evaluations}, n_evals {solver.n_evals}", f"{len(solver.nodes)} nodes",
                evaluations == solver.n_evals == len(solver.nodes)),
        ]  # fmt: skip
        if not self.stochastic:
            spread = solver.start(unit_noise(_SAMPLES)).x - grid.start_scale * unit_noise(_SAMPLES)
            laws.append(Law("start", where, f"off by {float(spread.abs().max()):.1e}", "start_scale times noise",
                            float(spread.abs().max()) < 1e-12))  # fmt: skip
        return laws

    def purity(self, name: str) -> list[Law]:
        """Same state, same answer; nothing given to `step` changes; a fork does not disturb the other branch."""
        solver, where = self.make(self.grids[name](8)), f"[{name}]"
        state, again, kept = solver.start(unit_noise(_SAMPLES)), True, True
        while state.step < solver.n_evals:
            x0 = data_x0(solver, state)
            before = [part.clone() for part in (state.x, x0, *state.history)]
            first = solver.step(state, x0).x.clone()
            second = solver.step(state, x0)
            again &= torch.equal(first, second.x)
            kept &= all(torch.equal(a, b) for a, b in zip(before, (state.x, x0, *state.history), strict=True))
            state = second
        fork = _interleaved(solver, unit_noise(_SAMPLES), unit_noise(_SAMPLES, seed=1))
        return [
            Law("step repeats", where, "equal" if again else "another x", "the same x from the same state", again),
            Law("step keeps inputs", where, "kept" if kept else "changed", "state and x0 untouched", kept),
            Law("fork", where, "equal" if fork else "disturbed", "branches that do not touch", fork),
        ]

    def batch(self, name: str) -> Law:
        """A sample alone is what it is in a batch."""
        grid, noise, data = self.grids[name](8), unit_noise(_SAMPLES), mixture()
        whole = self.make(grid)
        together = final_x(whole, data.denoiser(whole), noise)
        worst = 0.0
        for row in (0, _SAMPLES - 1):
            solver = self.make(grid, SeededNoise(self.seeds[row : row + 1]))
            alone = final_x(solver, data.denoiser(solver), noise[row : row + 1])
            worst = max(worst, float((alone - together[row : row + 1]).abs().max()))
        return Law("batch invariance", f"[{name}]", f"{worst:.1e}", "below 1e-10", worst < 1e-10)

    def velocity(self, name: str) -> list[Law]:
        """Against the schedule's own differences, and against the slope of the true trajectory."""
        grid, data = self.grids[name](7), mixture()
        solver, schedule = self.make(grid), grid.schedule
        h = 1e-6 * (schedule.t_max - schedule.t_min)
        step = _smooth_step(solver, h)
        node = solver.nodes[step]
        x = unit_noise(_SAMPLES)
        x0 = data.x0(x, node.alpha, node.sigma)
        y = solver.velocity(x, x0, step)
        scale = float(y.abs().max())
        near = torch.tensor([node.t - h, node.t + h], dtype=torch.float64)
        rates = [float(part(near).diff()) / (2 * h) for part in (schedule.alpha, schedule.sigma)]
        analytic = rates[0] * x0 + rates[1] * (x - node.alpha * x0) / node.sigma
        ends = [reference_solution(data.x0, _between(grid, node.t, node.t + side), x) for side in (-h, h)]
        slope = (ends[1] - ends[0]) / (2 * h)
        off = [float((y - other).abs().max()) / scale for other in (analytic, slope)]
        return [
            Law("velocity", f"[{name}] {what}", f"relative {value:.1e}", "below 1e-4", value < 1e-4)
            for what, value in zip(("alpha' x0 + sigma' eps", "slope of DOP853"), off, strict=True)
        ]

    def end(self, name: str) -> Law:
        """On a grid that ends on clean data the last step returns alpha x0, to the last bit, for every length."""
        exact = finite = True
        for steps in (1, 2, 3, 6, 7, 16):
            solver = self.make(clean(self.grids[name](steps)))
            state = solver.start(unit_noise(_SAMPLES))
            x0 = torch.full_like(state.x, math.nan)
            while state.step < solver.n_evals:
                x0 = data_x0(solver, state)
                state = solver.step(state, x0)
                finite &= bool(torch.isfinite(state.x).all())
            exact &= torch.equal(state.x, solver.grid.points[-1].alpha * x0)
        found = "not finite" if not finite else "equal" if exact else "another x"
        return Law("ends at x0", f"[{name}, to clean data]", found, "the last x0 itself", exact and finite)

    def dtypes(self, name: str) -> list[Law]:
        """The dtype and device of the noise are those of every state, and the numbers are close to float64's."""
        solver, data = self.make(self.grids[name](12)), mixture()
        exact = final_x(solver, data.denoiser(solver), unit_noise(_SAMPLES))
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        laws = []
        for device in devices:
            for dtype, allowed in ((torch.float64, 1e-12), (torch.float32, 1e-4), (torch.bfloat16, 0.3)):
                state = solver.start(unit_noise(_SAMPLES).to(device, dtype))
                kept = state.x.dtype == dtype and state.x.device.type == device
                while state.step < solver.n_evals:
                    state = solver.step(state, data_x0(solver, state))
                    parts = (state.x, *state.history)
                    kept &= all(part.dtype == dtype and part.device.type == device for part in parts)
                off = float((state.x.double().cpu() - exact).abs().max())
                shown = f"{'kept' if kept else 'changed'}, off by {off:.1e}"
                laws.append(
                    Law("dtype", f"[{dtype}, {device}]", shown, f"kept, below {allowed:g}", kept and off < allowed)
                )
        return laws

    def gradients(self, name: str) -> Law:
        """autograd through every step agrees with finite differences."""
        solver, good = self.make(self.grids[name](3)), True
        state = solver.start(unit_noise(_SAMPLES))
        while state.step < solver.n_evals:
            here, x0 = state, data_x0(solver, state)

            def moved(x: Tensor, clean_x: Tensor, at: State = here) -> Tensor:
                return solver.step(State(x, at.step, at.history, at.anchor), clean_x).x

            inputs = tuple(part.clone().requires_grad_() for part in (state.x, x0))
            try:
                good &= bool(torch.autograd.gradcheck(moved, inputs, raise_exception=False))
            except RuntimeError:
                good = False
            state = solver.step(state, x0)
        return Law("gradients", f"[{name}]", "agree" if good else "missing or wrong", "finite differences", good)


def data_x0(solver: Solver, state: State) -> Tensor:
    """The mixture's x0 at a state."""
    return mixture().denoiser(solver)(state.x, state.step)


def _interleaved(solver: Solver, noise: Tensor, other: Tensor) -> bool:
    """Whether a trajectory is the same with the steps of another one in between."""
    alone = final_x(solver, mixture().denoiser(solver), noise)
    state, beside = solver.start(noise), solver.start(other)
    while state.step < solver.n_evals:
        x0, x0_beside = data_x0(solver, state), data_x0(solver, beside)
        beside = solver.step(beside, x0_beside)
        state = solver.step(state, x0)
    return torch.equal(state.x, alone)


def _smooth_step(solver: Solver, h: float) -> int:
    """A step whose node lies on no kink of the schedule (a discrete table has one at each of its entries)."""
    schedule = solver.grid.schedule

    def kink(step: int) -> float:
        t = solver.nodes[step].t
        values = schedule.sigma(torch.tensor([t - h, t, t + h], dtype=torch.float64))
        return abs(float(values.diff().diff()))

    return min(range(solver.n_evals), key=kink)


class _Ends:
    """Two points of a schedule in any order, all that the reference integration reads of a grid."""

    def __init__(self, alpha: Tensor, sigma: Tensor) -> None:
        self.alpha, self.sigma = alpha, sigma


def _between(grid: Grid, start: float, end: float) -> Any:
    t = torch.tensor([start, end], dtype=torch.float64)
    return _Ends(grid.schedule.alpha(t), grid.schedule.sigma(t))
