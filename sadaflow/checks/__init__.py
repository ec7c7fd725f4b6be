"""The examination of an accelerator: `check_accelerator(factory)` in a test, and every law is examined."""

from collections.abc import Sequence
from itertools import product

from sadaflow.solvers import SOLVERS
from sadaflow.solvers.checks.report import Report

from .laws import BASE, SHAPES, Examination, Factory, guarded

__all__ = ["check_accelerator", "examine_accelerator"]

# The fourth-order step of `lms` onto clean data multiplies errors of past predictions many times over: plain sampling
# with it is less accurate than Euler on a third of the steps (docs/solvers.md), and no estimate is exact enough for it.
SOLVERS_EXAMINED = tuple(name for name in SOLVERS if name != "lms")


def check_accelerator(
    factory: Factory,
    *,
    never: Factory | None = None,
    steps: int = 50,
    solvers: Sequence[str] = SOLVERS_EXAMINED,
    worst: float = 3.0,
) -> Report:
    """Examine the accelerators that `factory()` makes; the report of `examine_accelerator`, whose settings it takes.

    Raises AssertionError, with the report as its text, where a law does not hold.
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
    """The laws of the interface, each measured on the accelerators that `factory()` makes.

    They sample `steps` steps of data with a denoiser known exactly, as a plain callable, and as a U-Net and a
    transformer that a seam may enter, with Euler and DPM-Solver++ 2M; kinds of network that they refuse are left out.
    The first kind that is left they also sample with each of `solvers`, where the
    final x may differ from plain sampling's by `worst` times what Euler's method loses by taking as few steps as were
    paid for. `never`, if given, makes accelerators of the same kind that skip nothing: they must sample plainly, bit
    for bit.
    """
    on = Examination(factory, steps, worst)
    subject = type(factory()).__name__
    laws = guarded("networks", on.enters)
    if on.networks:
        laws += [law for name in BASE for law in guarded("runs", on.runs, name)]
    if not all(law.passed for law in laws):
        return Report(subject, tuple(laws))  # the other laws would repeat it
    for name, network in product(BASE, on.networks):
        laws += guarded("identity", on.identity, name, network, never)
        laws += guarded("batch invariance", on.batch, name, network)
        laws += guarded("inputs kept", on.inputs, name, network)
        laws += guarded("accounting", on.accounting, name, network)
    for shape, network in product(SHAPES, on.networks):
        laws += guarded("shapes", on.shapes, shape, network)
    for name in solvers:
        laws += guarded("solvers", on.solvers, name)
    laws += guarded("determinism", on.determinism)
    laws += guarded("state", on.state)
    laws += guarded("memory", on.memory)
    laws += guarded("few steps", on.few_steps)
    laws += guarded("dtype", on.dtypes)
    return Report(subject, tuple(laws))
