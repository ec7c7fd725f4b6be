"""The commands `check solver` and `check accelerator`: the laws of the interface, measured on code of one's own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sadaflow.solvers.registry import draws_noise, make_solver

from ..accelerators import make_accelerator
from .flags import Debug, Names
from .parsers import count, real, text
from .terminal import say

if TYPE_CHECKING:
    from sadaflow.solvers.checks import Report

FAILED: Final = 1
_SCHEDULES: Final = ("vp", "edm", "flow")
_NAME = 'Registered name, module:Class or ./file.py:Class, with settings as in "{}".'


@dataclass(frozen=True)
class CheckSolverOptions:
    """The flags in the order in which --help shows them."""

    name: Annotated[str, typer.Argument(metavar="NAME", help=_NAME.format("my.module:Mine eta=0.5"))]
    law: Annotated[Names, text("NAME", "Law of docs/checks.md to measure; may be repeated.", show_default="all")] = None
    without: Annotated[Names, text("NAME", "Law to leave out; may be repeated.")] = None
    schedule: Annotated[
        Names, text("NAME", f"Schedule: {', '.join(_SCHEDULES)}; may be repeated.", show_default="all")
    ] = None
    order: Annotated[float | None, real("Expected order of convergence.", show_default="the solver's own")] = None
    warm_up: Annotated[int, count("Evaluations on the true trajectory before an order is measured.")] = 0
    seconds: Annotated[float, real("Processor time after which a law is given up.")] = 60.0
    debug: Debug = False


@dataclass(frozen=True)
class CheckAcceleratorOptions:
    """The flags in the order in which --help shows them."""

    name: Annotated[str, typer.Argument(metavar="NAME", help=_NAME.format("my.module:Mine every=3"))]
    never: Annotated[str | None, text("NAME", "The same accelerator with settings under which it skips nothing.")] = (
        None
    )
    law: Annotated[
        Names, text("NAME", "Law of docs/checks-accelerators.md, or a pattern; may be repeated.", show_default="all")
    ] = None
    excuse: Annotated[Names, text("NAME", "Law that no run needs to be able to break; may be repeated.")] = None
    schedule: Annotated[
        Names, text("NAME", f"Schedule: {', '.join(_SCHEDULES)}; may be repeated.", show_default="all")
    ] = None
    steps: Annotated[int, count("Steps of the runs.")] = 50
    worst: Annotated[float, real("Largest error, in units of that of Euler's method at the same cost.")] = 3.0
    seconds: Annotated[float, real("Time after which a measurement is given up.")] = 120.0
    debug: Debug = False


def check_solver(options: CheckSolverOptions) -> None:
    """Measure a solver against the properties that solvers must have, and against exact references.

    The status is 1 if a property does not hold. docs/checks.md explains each of them.
    """
    from sadaflow.solvers.checks import examine_solver  # slow to import

    stochastic = draws_noise(options.name)

    def factory(grid: Any, noise: Any = None) -> Any:
        return make_solver(options.name, grid, **({"noise": noise} if stochastic else {}))

    _show(
        examine_solver(
            factory,
            schedules=options.schedule or None,
            laws=options.law or None,
            without=options.without or (),
            stochastic=stochastic,
            order=options.order,
            warm_up=options.warm_up,
            seconds=options.seconds,
        )
    )


def check_accelerator(options: CheckAcceleratorOptions) -> None:
    """Measure an accelerator against the laws of the interface, on data whose denoiser is known exactly.

    The status is 1 if a law does not hold. docs/checks-accelerators.md explains each of them.
    """
    from ..checks import examine_accelerator  # slow to import

    for name in (options.name, options.never):
        if name is not None:
            make_accelerator(name)
    _show(
        examine_accelerator(
            _maker(options.name),
            never=None if options.never is None else _maker(options.never),
            steps=options.steps,
            worst=options.worst,
            schedules=options.schedule or _SCHEDULES,
            laws=options.law or ("*",),
            excuse=options.excuse or (),
            seconds=options.seconds,
        )
    )


def _maker(name: str) -> Callable[[], Any]:
    return lambda: make_accelerator(name)


def _show(report: "Report") -> None:
    say(str(report))
    if not report.passed:
        raise typer.Exit(FAILED)
