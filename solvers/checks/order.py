"""The order of convergence of a solver, measured against a reference solution."""

import math
from collections.abc import Callable
from functools import cache
from typing import Final

from torch import Tensor

from ..exact import GaussianMixture
from ..grid import Grid
from ..reference import reference_solution
from .laws import SAMPLES, Examination
from .problems import exact_start, finish, mixture, tilted_gaussian, unit_noise
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


def order_law(
    examination: Examination,
    name: str,
    which: str,
    order: float | None,
    band: float,
    warm_up: int,
    counts: tuple[int, ...] | None,
) -> Law:
    """Checks the slope of the error (against DOP853) over the number of steps.

    Args:
        examination: makes the solvers.
        name: name of the grid.
        which: name of the data distribution in `DATA`.
        order: expected order; None is the solver's own.
        band: allowed deviation.
        warm_up: number of evaluations on the true trajectory before the measurement starts.
        counts: numbers of steps; None chooses them by the expected order.
    """
    data, exact = DATA[which](), _reference(which, name, examination.grids[name])
    claimed = float(examination.make(examination.grids[name](4)).order if order is None else order)
    counts = counts or (_STEPS if claimed <= 2 else _STEPS_ABOVE_2)
    errors = []
    for steps in counts:
        solver = examination.make(examination.grids[name](steps))
        state = exact_start(solver, data, unit_noise(SAMPLES), warm_up)
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
