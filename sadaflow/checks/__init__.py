"""Checks that an accelerator obeys the laws of the interface; `check_accelerator(factory)` is made for tests."""

import sys
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase

from sadaflow.solvers.checks.report import Law, Report
from sadaflow.solvers.registry import REGISTRY

from .examination import Examination
from .finding import Finding, Measure, vacuous
from .laws import FIRST, LAWS
from .runs import Factory
from .schedules import SCHEDULES
from .seams import check_seams, examine_seams

__all__ = ["check_accelerator", "check_seams", "examine_accelerator", "examine_seams"]

# The fourth-order last step of `lms` amplifies errors of past predictions many times: plain sampling with it is less
# accurate than Euler on a third of the steps (docs/solvers.md), and no estimate is exact enough for it.
SOLVERS_EXAMINED = tuple(name for name in REGISTRY.built_in if name != "lms")

PAGE = "docs/checks-accelerators.md"


def check_accelerator(
    factory: Factory,
    *,
    never: Factory | None = None,
    steps: int = 50,
    solvers: Sequence[str] = SOLVERS_EXAMINED,
    worst: float = 3.0,
    schedules: Sequence[str] = tuple(SCHEDULES),
    laws: Collection[str] = ("*",),
    excuse: Collection[str] = (),
    tolerance: float = 1e-8,
    seconds: float = 120.0,
    progress: bool | None = None,
) -> Report:
    """Measures every law on the accelerators that `factory()` makes.

    Args:
        factory: Makes the accelerator.
        never: Makes accelerators of the same class that skip nothing. They must equal plain sampling bit for bit.
        steps: Number of steps of the runs.
        solvers: Names of the solvers that the accelerator is measured with.
        worst: Factor by which the final x may differ from plain sampling's, in units of the error of Euler's method
            at the same cost.
        schedules: Names of the schedules that it is measured on: "flow", "vp" and "edm".
        laws: Names of the laws to measure, or patterns as of `fnmatch`. "networks" and "runs" always are.
        excuse: Names of laws, or patterns, that may be vacuous: no run was such that the law could have failed.
        tolerance: Largest difference of a sample's x alone and in a batch.
        seconds: Longest time of one measurement; one that takes longer is ended and fails.
        progress: Whether to write the law that is being measured to stderr. None does if stderr is a terminal.

    Returns:
        The report of all laws.

    Raises:
        AssertionError: if a law does not hold, with the report as its text.
        ValueError: if an argument names an unknown law or schedule.
    """
    report = examine_accelerator(
        factory, never=never, steps=steps, solvers=solvers, worst=worst, schedules=schedules, laws=laws, excuse=excuse,
        tolerance=tolerance, seconds=seconds, progress=progress,
    )  # fmt: skip
    if not report.passed:
        raise AssertionError(str(report))
    return report


def examine_accelerator(
    factory: Factory,
    *,
    never: Factory | None = None,
    steps: int = 50,
    solvers: Sequence[str] = SOLVERS_EXAMINED,
    worst: float = 3.0,
    schedules: Sequence[str] = tuple(SCHEDULES),
    laws: Collection[str] = ("*",),
    excuse: Collection[str] = (),
    tolerance: float = 1e-8,
    seconds: float = 120.0,
    progress: bool | None = None,
) -> Report:
    """Measures every law on the accelerators that `factory()` makes, and reports.

    The accelerators sample data whose denoiser is known exactly, as a plain callable, and as a U-Net and a transformer
    that let a seam in. Types of network that they refuse are omitted.

    Args:
        factory: Makes the accelerator.
        never: As of `check_accelerator`, like the arguments below.
        steps: Number of steps.
        solvers: Names of the solvers.
        worst: Factor of the error of Euler's method that is allowed.
        schedules: Names of the schedules.
        laws: Names of the laws to measure.
        excuse: Names of the laws that may be vacuous.
        tolerance: Largest difference of a sample alone and in a batch.
        seconds: Longest time of a measurement.
        progress: Whether to write the law that is being measured to stderr.
    """
    for name in schedules:
        if name not in SCHEDULES:
            raise ValueError(f"unknown schedule {name!r} in schedules=; known are {', '.join(SCHEDULES)}")
    known = [measure.name for measure in (*FIRST, *LAWS)]
    for pattern in (*laws, *excuse):
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ValueError(f"unknown law {pattern!r} in laws= or excuse=; known are {', '.join(known)}")
    on = Examination(
        factory, steps, never=never, solvers=solvers, schedules=schedules, worst=worst, tolerance=tolerance
    )
    shown = sys.stderr.isatty() if progress is None else progress
    chosen = [measure for measure in LAWS if _matches(measure.name, laws)]
    found = list(_measured(FIRST, on, seconds, excuse, shown))
    if all(law.passed for law in found):
        found += _measured(chosen, on, seconds, excuse, shown)
    return Report(type(on.factory()).__name__ if on.networks else "accelerator", tuple(found), PAGE)


def _measured(
    measures: Sequence[Measure], on: Examination, seconds: float, excuse: Collection[str], shown: bool
) -> Iterator[Law]:
    for index, measure in enumerate(measures):
        if shown:
            print(f"\r\033[K{index + 1}/{len(measures)} {measure.name}", end="", file=sys.stderr, flush=True)
        found: list[Finding] = list(measure.findings(on, seconds))
        yield from (finding.law for finding in found)
        if (law := vacuous(measure, found, _matches(measure.name, excuse))) is not None:
            yield law
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
