"""Laws of stochastic solvers: what they draw, the order of their drift, and convergence to the path of the noise."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..grid import Grid
from ..noise import BrownianNoise, NoiseSource, SeededNoise
from .examination import SAMPLES, Examination, end_of
from .guard import follow
from .problems import MIDDLE, clean, final_x, mixture, normal, unit_noise
from .report import Law

_STEPS = (32, 64, 128)
_FINE = 1024


@dataclass
class _Recorded:
    """A noise source that keeps what it was asked for.

    Attributes:
        source: gives the noise.
        asked: (index, span, shape) of each draw.
    """

    source: NoiseSource
    asked: list[tuple[int, tuple[float, float], torch.Size]] = field(default_factory=list)

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        self.asked.append((index, span, like.shape))
        return self.source(index, span, like)


class _Silent:
    """Noise of size zero."""

    def __call__(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        return torch.zeros_like(like)


def noise_draws(examination: Examination, name: str) -> Iterator[Law]:
    """Checks the index, the span and the shape of every draw."""
    for grid, kind in ((examination.grids[name](9), ""), (clean(examination.grids[name](9)), ", to clean data")):
        source = _Recorded(SeededNoise(tuple(range(SAMPLES))))
        solver = examination.make(grid, source)
        noise = unit_noise(SAMPLES)
        state = solver.start(noise)
        wrong = _wrong_shape(source, noise.shape)
        seen = len(source.asked)
        for before, _, _ in follow(solver, state, mixture().denoiser(solver)):
            indices = [index for index, _, _ in source.asked[seen:]]
            if any(index != before.step + 1 for index in indices) and not wrong:
                wrong = f"evaluation {before.step} draws for {indices}, not {before.step + 1}"
            if len(indices) > 1 and not wrong:
                wrong = f"evaluation {before.step} draws {len(indices)} times for one index"
            seen = len(source.asked)
        wrong = wrong or _wrong_shape(source, noise.shape) or _wrong_span(grid, solver.nodes, source)
        wrong = wrong or ("" if source.asked else "the noise source is never called")
        shown = wrong or f"{len(source.asked)} draws"
        yield Law("noise draws", f"[{name}{kind}]", shown, "one per evaluation, over its own interval", not wrong)


def _wrong_shape(source: _Recorded, shape: torch.Size) -> str:
    return next((f"noise of shape {tuple(s)}" for _, _, s in source.asked if s != shape), "")


def _wrong_span(grid: Grid, nodes: object, source: _Recorded) -> str:
    """What is wrong with the spans: they run between points of the trajectory, and none is drawn over twice."""
    ends = [point.noise_fraction for point in (*grid.points, *nodes)]  # type: ignore[misc]
    for _, (start, end), _ in source.asked:
        if not 1 + 1e-12 >= start > end >= 0:
            return f"span ({start:.4g}, {end:.4g}) does not fall within 1 and 0"
        if any(min(abs(value - other) for other in ends) > 1e-6 for value in (start, end)):
            return f"span ({start:.4g}, {end:.4g}) ends at no point of the grid"
    spans = [span for _, span, _ in source.asked]
    for (a, b), (c, d) in ((one, two) for i, one in enumerate(spans) for two in spans[i + 1 :]):
        if min(a, c) - max(b, d) > 1e-9 and (abs(a - c) > 1e-9 or abs(b - d) < 1e-12):
            return f"spans ({a:.4g}, {b:.4g}) and ({c:.4g}, {d:.4g}) overlap"
    return ""


def noise_source(examination: Examination, name: str) -> Iterator[Law]:
    """Checks that samples follow their seeds, and that increments of one Brownian path serve as noise."""
    grid, noise, where = examination.grids[name](8), unit_noise(2), f"[{name}]"
    ends = [end_of(examination.make(grid, SeededNoise(seeds)), noise) for seeds in ((3, 4), (3, 4), (5, 4), (4, 3))]
    follows = torch.equal(ends[0], ends[1]) and not torch.equal(ends[0][0], ends[2][0])
    apart = float((ends[0][1] - ends[2][1]).abs().max()) < 1e-12
    good = follows and apart
    yield Law("noise source", where, "followed" if good else "not followed", "a sample follows its own seed", good)
    x = end_of(examination.make(grid, BrownianNoise((1, 2), depth=12)), noise)
    finite = bool(torch.isfinite(x).all())
    yield Law("noise source", f"[{name}, BrownianNoise]", "finite" if finite else "not finite", "finite", finite)


def drift(examination: Examination) -> Iterator[Law]:
    """Checks the order of the solver without its noise, against itself in many steps."""
    for name, make in examination.own(MIDDLE).items():
        yield _drift(examination, name, make)


def _drift(examination: Examination, name: str, make: Callable[[int], Grid]) -> Law:
    solver = examination.make(make(12), _Silent())
    on_grid = [after for before, _, after in follow(solver, solver.start(unit_noise(2)), mixture().denoiser(solver))
               if after.step < solver.n_evals and solver.nodes[after.step].t in solver.grid.t.tolist()]  # fmt: skip
    keeps = any(after.history for after in on_grid)
    claimed = examination.drift_order
    claimed = (2.0 if keeps else 1.0) if claimed is None else claimed
    x = {steps: _quiet_end(examination, make(steps)) for steps in (*_STEPS, _FINE)}
    gaps = [float((x[steps] - x[_FINE]).square().mean().sqrt()) for steps in _STEPS]
    slope = _slope(gaps, claimed)
    passed = slope > claimed - 2 * examination.band or max(gaps) < 1e-10
    shown = f"{slope:.2f} (differences {', '.join(f'{gap:.1e}' for gap in gaps)})"
    return Law("drift order", f"[{name}]", shown, f"{claimed:g} or more without noise", passed)


def _quiet_end(examination: Examination, grid: Grid) -> Tensor:
    """x at the end without noise."""
    return end_of(examination.make(grid, _Silent()), unit_noise(SAMPLES))


def _slope(gaps: list[float], claimed: float) -> float:
    """The order of the last two gaps; a difference to 1024 steps is smaller than an error by a known factor."""
    if min(gaps) <= 0 or not all(map(math.isfinite, gaps)):
        return math.nan if min(gaps) > 0 else math.inf
    shrunk = [gap / (1 - (steps / _FINE) ** claimed) for gap, steps in zip(gaps, _STEPS, strict=True)]
    return math.log(shrunk[-2] / shrunk[-1]) / math.log(2)


def strong(examination: Examination, name: str) -> Iterator[Law]:
    """Checks the order in which samples of one Brownian path converge, if the solver claims one."""
    claimed = examination.strong_order
    if claimed is None:
        return
    noise = normal(1, 512, seed=6)
    make = examination.grids[name]
    source = BrownianNoise((11,), depth=14)
    x = {steps: _pairs(examination, make(steps), source, noise) for steps in (*_STEPS, _FINE)}
    gaps = [float((x[steps] - x[_FINE]).square().mean().sqrt()) for steps in _STEPS]
    slope = math.log(gaps[0] / gaps[-1]) / math.log(_STEPS[-1] / _STEPS[0]) if min(gaps) > 0 else math.inf
    shown = f"{slope:.2f} (differences {', '.join(f'{gap:.1e}' for gap in gaps)})"
    yield Law("strong order", f"[{name}]", shown, f"{claimed:g} or more", slope > claimed - examination.band)


def _pairs(examination: Examination, grid: Grid, source: NoiseSource, noise: Tensor) -> Tensor:
    """x of many two-dimensional samples that one seed drives as if they were one."""
    solver, data = examination.make(grid, source), mixture()

    def denoise(x: Tensor, step: int) -> Tensor:
        node = solver.nodes[step]
        return data.x0(x.reshape(-1, 2), node.alpha, node.sigma).reshape(x.shape)

    return final_x(solver, denoise, noise)
