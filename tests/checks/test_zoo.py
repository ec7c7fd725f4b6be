"""Each wrong accelerator of the zoo is caught by the law that its mistake breaks, and each right one is accepted."""

from pathlib import Path

import pytest

from sadaflow.checks import check_accelerator, examine_accelerator
from sadaflow.checks.laws import FIRST, LAWS

from .zoo import RIGHT, WRONG, Specimen, specimen

ROOT = Path(__file__).resolve().parents[2]


def named(name: str) -> Specimen:
    return next(one for one in WRONG if one.name == name)


def test_the_zoo_is_large_enough() -> None:
    assert len(WRONG) >= 60 and len(RIGHT) >= 8
    assert len({one.name for one in WRONG}) == len(WRONG)


def test_the_page_explains_every_law_and_lists_every_wrong_one() -> None:
    page = (ROOT / "docs" / "checks-accelerators.md").read_text("utf-8")
    headings = {line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")}
    assert headings == {measure.name for measure in (*FIRST, *LAWS)}
    for one in WRONG:
        assert f"| {one.law} | `{one.name}` | {one.mistake} |" in page.splitlines()


FEW = list(RIGHT)[:1]
"""Right kinds of the ordinary test run; the examination of one takes half a minute."""


@pytest.mark.parametrize("one", WRONG, ids=lambda one: one.name)
def test_a_wrong_one_is_caught_by_its_law(one: Specimen) -> None:
    report = specimen.examined(one)
    assert one.law in {law.name for law in report.failures}, str(report)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in FEW)) for kind in RIGHT])
def test_a_right_one_is_accepted(kind: str) -> None:
    factory, options = RIGHT[kind]
    check_accelerator(factory, **{"solvers": ("euler", "heun", "unipc", "euler-ancestral"), **options})


def test_a_plan_that_does_not_fit_ends_the_examination() -> None:
    with pytest.raises(AssertionError, match=r"FAIL  runs.*plan\(0\) is .* 4 samples"):
        check_accelerator(named("OnePlan").factory)


def test_samples_that_never_decide_apart_are_vacuous() -> None:
    failures = specimen.examined(named("Alike")).failures
    assert any("vacuous" in law.measured for law in failures)


def test_a_run_that_does_not_end_is_ended_by_name() -> None:
    failures = examine_accelerator(named("Loops").factory, seconds=1.0).failures
    assert {law.name for law in failures} == {"runs"} and "not finished after 1 s" in failures[0].measured
