"""Checks a solver against the properties of the solver interface: call `check_solver(factory)` in a test."""

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
    """Checks the solvers that `factory(grid)` makes.

    Args:
        factory: makes a solver for a grid.
        **settings: arguments of `examine_solver`.

    Returns:
        The report.

    Raises:
        AssertionError: if a property does not hold; the message is the report.
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
    """Measures every property of the solver interface on the solvers that `factory(grid)` makes.

    Args:
        factory: `factory(grid)`, or `factory(grid, noise)` for stochastic solvers.
        order: expected order of convergence; defaults to the solver's own.
        band: allowed deviation of the measured order on a Gaussian mixture. On a single Gaussian, where methods may
            converge faster, it is a lower bound only.
        warm_up: x is set to the true trajectory after each of the first `warm_up` evaluations, for methods whose first
            steps have lower order.
        stochastic: check the mean and covariance of the samples instead of an order.
        ends_at_x0: False exempts a method that extrapolates beyond the last x0.
        grids: maps names to functions from a number of steps to a grid; defaults to VP, EDM and flow, with equal and
            unequal steps.
        steps: numbers of steps from which the order is measured.

    Returns:
        The report.
    """
    examination = Examination(factory, grids or dict(GRIDS), stochastic)
    laws: list[Law] = []
    for name in examination.grids:
        laws += examination.structure(name)
        laws += examination.purity(name)
        laws += velocity_laws(examination, name)
        laws.append(examination.batch(name))
        if not stochastic:
            laws += [order_law(examination, name, which, order, band, warm_up, steps) for which in DATA]
        if ends_at_x0:
            laws.append(examination.end(name))
    first = next(iter(examination.grids))
    laws += examination.dtypes(first)
    laws.append(examination.gradients(first))
    if stochastic:
        laws += distribution_laws(lambda grid, noise: examination.make(grid, noise), examination.grids)
    return Report(type(examination.make(examination.grids[first](4))).__name__, tuple(laws))
