"""The examination of a solver: `check_solver(factory)` in a test, and every law of the interface is examined."""

from collections.abc import Callable
from typing import Any

from ..grid import Grid
from .distribution import distribution_laws
from .laws import Examination, Factory
from .order import DATA, order_law
from .problems import GRIDS
from .report import Law, Report
from .velocity import velocity_laws


def check_solver(factory: Factory, **settings: Any) -> Report:
    """Examine the solvers that `factory(grid)` makes; the report of `examine_solver`, whose settings it takes.

    Raises AssertionError, with the report as its text, where a law does not hold.
    """
    report = examine_solver(factory, **settings)
    if not report.passed:
        raise AssertionError(str(report))
    return report


def examine_solver(
    factory: Factory,
    *,
    order: float | None = None,
    band: float = 0.2,
    warm_up: int = 0,
    stochastic: bool = False,
    ends_at_x0: bool = True,
    grids: dict[str, Callable[[int], Grid]] | None = None,
    steps: tuple[int, ...] | None = None,
) -> Report:
    """The laws of the interface, each measured on the solvers that `factory(grid)` makes.

    The order of convergence must lie within `band` of `order`, by default the solver's own, on a Gaussian mixture, and
    not below that on a single Gaussian, where methods may do better. `warm_up` puts x right after each of the first
    evaluations, for methods whose start is of lower order. `stochastic` solvers are made by `factory(grid, noise)` and
    examined by the mean and covariance they reach in place of an order. `ends_at_x0` False excuses a method that
    extrapolates past the last x0. `grids` maps names to functions of the number of steps, by default on VP, EDM and
    flow, even and uneven; `steps` are the numbers of steps that an order is read from.
    """
    on = Examination(factory, grids or dict(GRIDS), stochastic)
    laws: list[Law] = []
    for name in on.grids:
        laws += on.structure(name)
        laws += on.purity(name)
        laws += velocity_laws(on, name)
        laws.append(on.batch(name))
        if not stochastic:
            laws += [order_law(on, name, which, order, band, warm_up, steps) for which in DATA]
        if ends_at_x0:
            laws.append(on.end(name))
    first = next(iter(on.grids))
    laws += on.dtypes(first)
    laws.append(on.gradients(first))
    if stochastic:
        laws += distribution_laws(lambda grid, noise: on.make(grid, noise), on.grids)
    return Report(type(on.make(on.grids[first](4))).__name__, tuple(laws))
