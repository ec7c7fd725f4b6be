"""Examination of adaptive solvers, whose number of evaluations is not known beforehand."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, Final

import torch
from torch import Tensor

from ..grid import Grid, Node, point_at
from ..reference import reference_solution
from ..schedule import EDM, RectifiedFlow, Schedule
from .examination import SAMPLES
from .guard import guarded
from .problems import mixture, stable_diffusion, unit_noise
from .report import Law, Report

AdaptiveFactory = Callable[[Schedule, float, float, float], Any]
_Measure = Callable[[AdaptiveFactory, str, float], Iterator[Law]]

_ENDS: Final[dict[str, tuple[Callable[[], Schedule], float, float]]] = {
    "vp": (stable_diffusion, 999.0, 10.0),
    "edm": (EDM, 20.0, 0.05),
    "flow": (RectifiedFlow, 1.0, 0.05),
}
_TOLERANCES: Final = (1e-3, 1e-5)


class _Denoise:
    """The mixture's denoiser, which keeps the nodes it was called at."""

    def __init__(self, jump: float = 0.0) -> None:
        self.jump = jump
        self.nodes: list[Node] = []

    def __call__(self, x: Tensor, node: Node) -> Tensor:
        self.nodes.append(node)
        return mixture().x0(x, node.alpha, node.sigma) + self.jump * float(node.noise_fraction < 0.4)


def examine_adaptive(factory: AdaptiveFactory, *, looser: float = 20.0, seconds: float = 60.0) -> Report:
    """Measures adaptive solvers.

    Args:
        factory: `factory(schedule, t_start, t_end, tolerance)` makes a solver whose `solve(denoise, noise)` returns an
            object with `x`, `grid` and `nfe`, as `Adaptive` has them; denoise is called as `denoise(x, node)`.
        looser: how many times the tolerance the error may be.
        seconds: processor time after which a law ends, and the examination with it.

    Returns:
        The report.
    """
    found: list[Law] = []
    for name in _ENDS:
        for law, measure in _LAWS.items():
            results, ended = guarded(law, f"[{name}]", seconds, partial(_results, measure, factory, name, looser))
            found += results
            if not ended:
                return Report(_subject(factory), tuple(found), "docs/checks.md")
    return Report(_subject(factory), tuple(found), "docs/checks.md")


def _results(measure: _Measure, factory: AdaptiveFactory, name: str, looser: float) -> list[Law]:
    return list(measure(factory, name, looser))


def check_adaptive(factory: AdaptiveFactory, **settings: Any) -> Report:
    """Measures an adaptive solver.

    Args:
        factory: Makes the solver; as of `examine_adaptive`.
        **settings: Further arguments of `examine_adaptive`.

    Returns:
        The report of `examine_adaptive`.

    Raises:
        AssertionError: If a property does not hold; the message is the report.
    """
    report = examine_adaptive(factory, **settings)
    if not report.passed:
        raise AssertionError(str(report))
    return report


def _subject(factory: AdaptiveFactory) -> str:
    try:
        return type(factory(RectifiedFlow(), 1.0, 0.05, 1e-3)).__name__
    except Exception:
        return getattr(factory, "__name__", type(factory).__name__)


def _made(factory: AdaptiveFactory, name: str, tolerance: float) -> Any:
    schedule, start, end = _ENDS[name]
    return factory(schedule(), start, end, tolerance)


@cache
def _exact(name: str) -> Tensor:
    schedule, start, end = _ENDS[name]
    grid = Grid.from_t(schedule(), [start, end])
    return reference_solution(mixture().x0, grid, unit_noise(SAMPLES) * grid.start_scale)


def _tolerance(factory: AdaptiveFactory, name: str, looser: float) -> Iterator[Law]:
    """The error is of the size of the tolerance, and smaller tolerances take more evaluations."""
    costs = []
    for tolerance in _TOLERANCES:
        run = _made(factory, name, tolerance).solve(_Denoise(), unit_noise(SAMPLES))
        off = float((run.x - _exact(name)).abs().max())
        costs.append(run.nfe)
        bound = looser * tolerance
        yield Law("tolerance", f"[{name}, {tolerance:g}]", f"off by {off:.1e}", f"below {bound:g}", off < bound)
    shown = f"{costs[0]} and {costs[1]} evaluations"
    yield Law("tolerance", f"[{name}, cost]", shown, "more for a smaller tolerance", costs[1] > costs[0])


def _counting(factory: AdaptiveFactory, name: str, looser: float) -> Iterator[Law]:
    """The number of evaluations is that of the calls."""
    denoise = _Denoise()
    run = _made(factory, name, 1e-3).solve(denoise, unit_noise(SAMPLES))
    calls = len(denoise.nodes)
    yield Law("evaluations", f"[{name}]", f"nfe {run.nfe}", f"{calls} calls", run.nfe == calls)


def _nodes(factory: AdaptiveFactory, name: str, looser: float) -> Iterator[Law]:
    """Nodes lie on the schedule within the interval, with the schedule's timesteps."""
    schedule, start, end = _ENDS[name]
    denoise = _Denoise()
    run = _made(factory, name, 1e-3).solve(denoise, unit_noise(SAMPLES))
    wrong = ""
    for index, node in enumerate(denoise.nodes):
        right = point_at(schedule(), node.t)
        own = float(schedule().timestep(node.t))
        if max(abs(right.alpha - node.alpha), abs(right.sigma - node.sigma)) > 1e-9 * (1 + right.sigma):
            wrong = wrong or f"node {index} is not on the schedule"
        if not end - 1e-9 <= node.t <= start + 1e-9:
            wrong = wrong or f"node {index} at t = {node.t:.6g} lies outside"
        if abs(node.timestep - own) > 1e-6 * (1 + abs(own)):
            wrong = wrong or f"node {index} has timestep {node.timestep:.6g}, not {own:.6g}"
    yield Law("timesteps", f"[{name}]", wrong or "all right", "on the schedule, with its timesteps", not wrong)
    ends = [float(run.grid.t[0]), float(run.grid.t[-1])]
    good = abs(ends[0] - start) < 1e-9 * (1 + start) and abs(ends[1] - end) < 1e-9 * (1 + start)
    yield Law("accepted grid", f"[{name}]", f"from {ends[0]:.6g} to {ends[1]:.6g}", f"{start:g} to {end:g}", good)


def _object(factory: AdaptiveFactory, name: str, looser: float) -> Iterator[Law]:
    """Runs repeat, with the same object and after another run; noise and dtype are kept."""
    solver, noise = _made(factory, name, 1e-3), unit_noise(SAMPLES)
    first = solver.solve(_Denoise(), noise)
    for samples in (2, SAMPLES):
        solver.solve(_Denoise(), unit_noise(samples, seed=1))
    again, kept = solver.solve(_Denoise(), noise), torch.equal(noise, unit_noise(SAMPLES))
    equal = torch.equal(first.x, again.x) and first.nfe == again.nfe
    shown = "a different run" if not equal else "the noise changed" if not kept else "equal"
    yield Law("object", f"[{name}]", shown, "the same run again", equal and kept)
    half = solver.solve(_Denoise(), noise.float())
    off = float((half.x.double() - _exact(name)).abs().max())
    good = half.x.dtype == torch.float32 and off < looser * 1e-3
    yield Law("dtype", f"[{name}]", f"{half.x.dtype}, off by {off:.1e}", "torch.float32, within the tolerance", good)


def _jump(factory: AdaptiveFactory, name: str, looser: float) -> Iterator[Law]:
    """A run ends where x0 jumps, and with a batch of one."""
    denoise = _Denoise(jump=1.0)
    run = _made(factory, name, 1e-3).solve(denoise, unit_noise(1))
    good = bool(torch.isfinite(run.x).all())
    yield Law("jump", f"[{name}]", f"{'finite' if good else 'not finite'} after {len(denoise.nodes)}", "an end", good)


_LAWS: Final[dict[str, _Measure]] = {
    "tolerance": _tolerance,
    "evaluations": _counting,
    "timesteps": _nodes,
    "object": _object,
    "jump": _jump,
}
