"""The order of convergence of a solver, measured against a reference solution."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

from torch import Tensor

from ..exact import GaussianMixture
from ..grid import Grid
from ..reference import reference_solution
from .examination import SAMPLES, Examination
from .problems import JAGGED, exact_start, finish, mixture, tilted_gaussian, unit_noise
from .report import Law

_STEPS: Final = (48, 96, 192)
_STEPS_ABOVE_2: Final = (96, 192, 384)  # higher orders need smaller steps to show
_ROUNDING: Final = 1e-11  # errors below this are dominated by rounding
DATA: Final[dict[str, Callable[[], GaussianMixture]]] = {"mixture": mixture, "gaussian": tilted_gaussian}


@cache
def _reference(which: str, name: str, make: Callable[[int], Grid]) -> Tensor:
    """Reference x at the end of a named grid by DOP853."""
    grid = make(2)
    return reference_solution(DATA[which]().x0, grid, unit_noise(SAMPLES) * grid.start_scale)


def orders(examination: Examination, name: str) -> Iterator[Law]:
    """Checks the order of convergence on both data distributions."""
    for which in DATA:
        yield _order("order", examination, name, examination.grids[name], which, examination.band)


def jagged_orders(examination: Examination) -> Iterator[Law]:
    """Checks the order of convergence on grids whose steps alternate between 1 and 4.

    The largest steps are 1.6 times the mean there, so that high orders show later: the band grows with the order.
    """
    wider = max(1.0, examination.claimed_order() / 2) * examination.band
    for name, grid in examination.own(JAGGED).items():
        if name in ("vp-jagged", "flow-jagged", "flow-uneven"):
            yield _order("jagged order", examination, name, grid, "mixture", wider)


def _order(
    law: str, examination: Examination, name: str, make: Callable[[int], Grid], which: str, band: float
) -> Law:
    """Checks the slope of the error (against DOP853) over the number of steps.

    Args:
        law: name of the law.
        examination: makes the solvers, and has the expected order, the warm-up and the numbers of steps.
        name: name of the grid.
        make: makes the grid.
        which: name of the data distribution in `DATA`.
        band: allowed deviation from the expected order.
    """
    data, exact = DATA[which](), _reference(which, name, make)
    claimed = examination.claimed_order()
    counts = examination.steps or (_STEPS if claimed <= 2 else _STEPS_ABOVE_2)
    errors = []
    for steps in counts:
        solver = examination.make(make(steps))
        state = exact_start(solver, data, unit_noise(SAMPLES), examination.warm_up)
        x = finish(solver, data.denoiser(solver), state)
        errors.append(float((x - exact).square().mean().sqrt()))
    seen = [(steps, error) for steps, error in zip(counts, errors, strict=True) if error > _ROUNDING]
    shown = f"[{name}, {which}]"
    if not all(math.isfinite(error) for error in errors):
        return Law(law, shown, f"errors {errors}", f"{claimed:g}", False)
    if len(seen) < 2:
        return Law(law, shown, f"errors below {_ROUNDING:g}", f"{claimed:g} or exact", True)
    slope, whole = _slope(*seen[-2:]), _slope(seen[0], seen[-1])
    measured = f"{slope:.2f} (errors {', '.join(f'{error:.1e}' for error in errors)})"
    # An error that changes its sign passes a minimum, after which it falls more slowly for a while.
    passed = slope > claimed - band or (whole > claimed - band and slope > claimed - 0.5)
    return Law(law, shown, measured, f"{claimed:g} or more, less {band:g}", passed)


def _slope(first: tuple[int, float], last: tuple[int, float]) -> float:
    """Order of convergence between two (number of steps, error)."""
    return math.log(first[1] / last[1]) / math.log(last[0] / first[0])
