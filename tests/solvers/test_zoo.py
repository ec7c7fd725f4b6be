"""Every wrong solver of the zoo is caught by the law that is meant to, and every right one is accepted."""

import pytest

from sadaflow.solvers.checks import GRIDS, LAWS, examine_solver
from support.solver_zoo import RIGHT, WRONG, Right, Wrong

FAST = {name: GRIDS[name] for name in ("vp-karras", "flow-uniform")}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_solver_fails_its_law(name: str) -> None:
    case: Wrong = WRONG[name]
    report = examine_solver(
        case.factory, laws=[case.law], grids=FAST, stochastic=case.stochastic, **case.settings
    )
    assert {law.name for law in report.failures} == {case.law}, f"{case.mistake}\n{report}"


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_solver_is_accepted(name: str) -> None:
    case: Right = RIGHT[name]
    report = examine_solver(case.factory, **case.settings)
    assert report.passed, str(report)


def test_the_zoo_is_large_and_meets_every_law() -> None:
    assert len(WRONG) >= 40 and len(RIGHT) >= 8
    assert set(LAWS) == {case.law for case in WRONG.values()}
