"""Properties that every solver must have, measured with exact denoisers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from ..base import Solver, State
from ..grid import Grid
from ..noise import NoiseSource, SeededNoise
from .problems import clean, final_x, mixture, unit_noise
from .report import Law

Factory = Callable[..., Solver]

SAMPLES: Final = 5


@dataclass(frozen=True)
class Examination:
    """Measurements of solvers made by `factory`, one method per property.

    Attributes:
        factory: `factory(grid)`, or `factory(grid, noise)` for stochastic solvers.
        grids: maps names to functions from a number of steps to a grid.
        stochastic: whether `factory` takes a noise source.
        seeds: one noise seed per sample.
    """

    factory: Factory
    grids: dict[str, Callable[[int], Grid]]
    stochastic: bool
    seeds: tuple[int, ...] = field(default=tuple(range(SAMPLES)))

    def make(self, grid: Grid, noise: NoiseSource | None = None) -> Solver:
        """Makes a solver over `grid`; a stochastic one gets `noise`, by default one seed per sample."""
        if not self.stochastic:
            return self.factory(grid)
        return self.factory(grid, SeededNoise(self.seeds) if noise is None else noise)

    def structure(self, name: str) -> list[Law]:
        """Checks that nodes lie on the schedule, the number of evaluations, and the start."""
        grid = self.grids[name](6)
        solver = self.make(grid)
        schedule, where = grid.schedule, f"[{name}]"
        t = torch.tensor([node.t for node in solver.nodes], dtype=torch.float64)
        alpha, sigma = (
            torch.tensor([getattr(node, key) for node in solver.nodes], dtype=torch.float64)
            for key in ("alpha", "sigma")
        )
        off = max(float((schedule.alpha(t) - alpha).abs().max()), float((schedule.sigma(t) - sigma).abs().max()))
        state = solver.start(unit_noise(SAMPLES))
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
            spread = solver.start(unit_noise(SAMPLES)).x - grid.start_scale * unit_noise(SAMPLES)
            laws.append(Law("start", where, f"off by {float(spread.abs().max()):.1e}", "start_scale times noise",
                            float(spread.abs().max()) < 1e-12))  # fmt: skip
        return laws

    def purity(self, name: str) -> list[Law]:
        """Checks that `step` is deterministic and keeps its arguments, and that forks are independent."""
        solver, where = self.make(self.grids[name](8)), f"[{name}]"
        state, again, kept = solver.start(unit_noise(SAMPLES)), True, True
        while state.step < solver.n_evals:
            x0 = data_x0(solver, state)
            before = [part.clone() for part in (state.x, x0, *state.history)]
            first = solver.step(state, x0).x.clone()
            second = solver.step(state, x0)
            again &= torch.equal(first, second.x)
            kept &= all(torch.equal(a, b) for a, b in zip(before, (state.x, x0, *state.history), strict=True))
            state = second
        fork = _interleaved(solver, unit_noise(SAMPLES), unit_noise(SAMPLES, seed=1))
        return [
            Law("step repeats", where, "equal" if again else "a different x", "the same x from the same state", again),
            Law("step keeps inputs", where, "kept" if kept else "changed", "state and x0 unchanged", kept),
            Law("fork", where, "equal" if fork else "disturbed", "independent branches", fork),
        ]

    def batch(self, name: str) -> Law:
        """Checks that a sample alone equals the same sample in a batch."""
        grid, noise, data = self.grids[name](8), unit_noise(SAMPLES), mixture()
        whole = self.make(grid)
        together = final_x(whole, data.denoiser(whole), noise)
        worst = 0.0
        for row in (0, SAMPLES - 1):
            solver = self.make(grid, SeededNoise(self.seeds[row : row + 1]))
            alone = final_x(solver, data.denoiser(solver), noise[row : row + 1])
            worst = max(worst, float((alone - together[row : row + 1]).abs().max()))
        return Law("batch invariance", f"[{name}]", f"{worst:.1e}", "below 1e-10", worst < 1e-10)

    def end(self, name: str) -> Law:
        """Checks that on a grid to clean data the last step returns alpha x0 to the last bit, for every length."""
        exact = finite = True
        for steps in (1, 2, 3, 6, 7, 16):
            solver = self.make(clean(self.grids[name](steps)))
            state = solver.start(unit_noise(SAMPLES))
            x0 = torch.full_like(state.x, math.nan)
            while state.step < solver.n_evals:
                x0 = data_x0(solver, state)
                state = solver.step(state, x0)
                finite &= bool(torch.isfinite(state.x).all())
            exact &= torch.equal(state.x, solver.grid.points[-1].alpha * x0)
        found = "not finite" if not finite else "equal" if exact else "a different x"
        return Law("ends at x0", f"[{name}, to clean data]", found, "alpha times the last x0", exact and finite)

    def dtypes(self, name: str) -> list[Law]:
        """Checks that states keep the dtype and device of the noise, with values close to those in float64."""
        solver, data = self.make(self.grids[name](12)), mixture()
        exact = final_x(solver, data.denoiser(solver), unit_noise(SAMPLES))
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        laws = []
        for device in devices:
            for dtype, allowed in ((torch.float64, 1e-12), (torch.float32, 1e-4), (torch.bfloat16, 0.3)):
                state = solver.start(unit_noise(SAMPLES).to(device, dtype))
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
        """Checks that autograd through every step agrees with finite differences."""
        solver, good = self.make(self.grids[name](3)), True
        state = solver.start(unit_noise(SAMPLES))
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
    """Returns the mixture's x0 at a state."""
    return mixture().denoiser(solver)(state.x, state.step)


def _interleaved(solver: Solver, noise: Tensor, other: Tensor) -> bool:
    """Whether a trajectory is unchanged when steps of another trajectory run in between."""
    alone = final_x(solver, mixture().denoiser(solver), noise)
    state, beside = solver.start(noise), solver.start(other)
    while state.step < solver.n_evals:
        x0, x0_beside = data_x0(solver, state), data_x0(solver, beside)
        beside = solver.step(beside, x0_beside)
        state = solver.step(state, x0)
    return torch.equal(state.x, alone)
