"""Checks that an accelerator obeys the laws of the interface; `check_accelerator(factory)` is made for tests."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from sadaflow.solvers import SOLVERS
from sadaflow.solvers.checks.report import Law, Report

from .laws import BASE, SHAPES, Examination
from .runs import Factory

__all__ = ["check_accelerator", "examine_accelerator"]

# The fourth-order last step of `lms` amplifies errors of past predictions many times: plain sampling with it is less
# accurate than Euler on a third of the steps (docs/solvers.md), and no estimate is exact enough for it.
SOLVERS_EXAMINED = tuple(name for name in SOLVERS if name != "lms")


def check_accelerator(
    factory: Factory,
    *,
    never: Factory | None = None,
    steps: int = 50,
    solvers: Sequence[str] = SOLVERS_EXAMINED,
    worst: float = 3.0,
) -> Report:
    """Measures every law on the accelerators that `factory()` makes.

    Args:
        factory: Makes the accelerator.
        never: Makes accelerators of the same class that skip nothing. They must equal plain sampling bit for bit.
        steps: Number of steps of the runs.
        solvers: Names of the solvers that the accelerator is measured with.
        worst: Factor by which the final x may differ from plain sampling's, in units of the error of Euler's method
            at the same cost.

    Returns:
        The report of all laws.

    Raises:
        AssertionError: if a law does not hold, with the report as its text.
    """
    report = examine_accelerator(factory, never=never, steps=steps, solvers=solvers, worst=worst)
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
) -> Report:
    """Measures every law on the accelerators that `factory()` makes, and reports.

    The accelerators sample data whose denoiser is known exactly, as a plain callable, and as a U-Net and a transformer
    that let a seam in, with Euler and DPM-Solver++ 2M. Types of network that they refuse are omitted. The first type
    that is left is also sampled with each of `solvers`. The arguments are those of `check_accelerator`.
    """
    on = Examination(factory, steps, worst)
    subject = type(factory()).__name__
    laws = _guarded("networks", on.enters)
    if on.networks:
        laws += [law for name in BASE for law in _guarded("runs", on.runs, name)]
    if not all(law.passed for law in laws):
        return Report(subject, tuple(laws))  # the other laws would repeat it
    for name, network in product(BASE, on.networks):
        laws += _guarded("identity", on.identity, name, network, never)
        laws += _guarded("batch invariance", on.batch, name, network)
        laws += _guarded("inputs kept", on.inputs, name, network)
        laws += _guarded("accounting", on.accounting, name, network)
    for shape, network in product(SHAPES, on.networks):
        laws += _guarded("shapes", on.shapes, shape, network)
    for name in solvers:
        laws += _guarded("solvers", on.solvers, name)
    laws += _guarded("determinism", on.determinism)
    laws += _guarded("state", on.state)
    laws += _guarded("memory", on.memory)
    laws += _guarded("few steps", on.few_steps)
    laws += _guarded("dtype", on.dtypes)
    return Report(subject, tuple(laws))


def _guarded(name: str, law: Callable[..., Law | Sequence[Law]], *args: Any) -> list[Law]:
    """The results of `law(*args)`; a failed law called `name` if it raises."""
    try:
        found = law(*args)
    except Exception as failure:  # an accelerator may raise anything
        where = "[" + ", ".join(map(str, args)) + "]" if args else ""
        return [Law(name, where, f"{type(failure).__name__}: {failure}", "no error", False)]
    return [found] if isinstance(found, Law) else list(found)
