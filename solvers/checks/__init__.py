"""Checks a solver against the properties of the solver interface: call `check_solver(factory)` in a test."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..grid import Grid
from .adaptive import check_adaptive, examine_adaptive
from .catalogue import CATALOGUE, LAWS, Entry
from .examination import Examination, Factory
from .guard import guarded
from .problems import GRIDS
from .progress import Progress
from .report import Law, Report

PAGE: Final = "docs/checks.md"
SCHEDULES: Final = ("vp", "edm", "flow")


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
    grids: Mapping[str, Callable[[int], Grid]] | None = None,
    schedules: Sequence[str] | None = None,
    laws: Sequence[str] | None = None,
    without: Sequence[str] = (),
    progress: bool | None = None,
    **claims: Any,
) -> Report:
    """Measures every property of the solver interface on the solvers that `factory(grid)` makes.

    What the solver raises, and a solver that does not advance or does not end, fails the law that met it.

    Args:
        factory: `factory(grid)`, or `factory(grid, noise)` for stochastic solvers.
        grids: maps names to functions from a number of steps to a grid; defaults to VP, EDM and flow, with equal and
            unequal steps. Some laws have grids of their own besides.
        schedules: "vp", "edm", "flow": those whose grids are used; None uses all.
        laws: names of the laws to measure, of `LAWS`; None measures all.
        without: names of laws to leave out.
        progress: whether to show a progress bar; None shows it on a terminal.
        **claims: what the author says about the solver, fields of `Examination`: `stochastic`, `order`, `band`,
            `warm_up`, `steps`, `ends_at_x0`, `drift_order`, `strong_order`, `tolerances` by law, and `seconds`.

    Returns:
        The report.

    Raises:
        ValueError: if a law, a schedule or a claim is unknown.
    """
    chosen = _chosen(laws, without)
    used = dict(grids) if grids is not None else _grids(schedules)
    examination = Examination(factory, grids=used, schedules=schedules, **_known(claims))
    plan = [(entry, name) for entry in CATALOGUE if entry.applies(examination) and set(entry.names) & chosen
            for name in entry.where(examination)]  # fmt: skip
    found: list[Law] = []
    with Progress("check_solver", len(plan), progress) as bar:
        for entry, name in plan:
            results, ended = _measured(entry, examination, name, chosen)
            found += [law for law in results if law.name in chosen]
            bar.advance(entry.names[0])
            if not ended:  # the remaining laws would not end either
                break
    return Report(_subject(examination), tuple(found), PAGE)


def _measured(entry: Entry, examination: Examination, name: str, chosen: set[str]) -> tuple[list[Law], bool]:
    law = next(law for law in entry.names if law in chosen)  # fails if the solver raises
    arguments = (examination, name) if name else (examination,)
    where = f"[{name}]" if name else "[grids of its own]"
    return guarded(law, where, examination.seconds, lambda: list(entry.measure(*arguments)))


def _chosen(laws: Sequence[str] | None, without: Sequence[str]) -> set[str]:
    unknown = sorted({*(laws or ()), *without} - set(LAWS))
    if unknown:
        raise ValueError(f"unknown laws {unknown}; known are {', '.join(LAWS)}")
    return set(LAWS if laws is None else laws) - set(without)


def _grids(schedules: Sequence[str] | None) -> dict[str, Callable[[int], Grid]]:
    unknown = sorted(set(schedules or ()) - set(SCHEDULES))
    if unknown:
        raise ValueError(f"unknown schedules {unknown}; known are {', '.join(SCHEDULES)}")
    return {name: grid for name, grid in GRIDS.items() if schedules is None or name.partition("-")[0] in schedules}


def _known(claims: dict[str, Any]) -> dict[str, Any]:
    known = [name for name in Examination.__dataclass_fields__ if name not in ("factory", "grids", "schedules")]
    unknown = sorted(set(claims) - set(known))
    if unknown:
        raise ValueError(f"unknown settings {unknown} of examine_solver; known are {', '.join(known)}")
    return claims


def _subject(examination: Examination) -> str:
    """Name of the solver's class, or of the factory if it makes none."""
    try:
        return type(examination.make(next(iter(examination.grids.values()))(4))).__name__
    except Exception:
        return getattr(examination.factory, "__name__", type(examination.factory).__name__)


__all__ = [
    "GRIDS", "LAWS", "Law", "Report", "check_adaptive", "check_solver", "examine_adaptive", "examine_solver",
]  # fmt: skip
