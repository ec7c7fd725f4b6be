"""Every accelerator of the library passes `check_accelerator`, on networks where its samples decide differently."""

from collections.abc import Callable

import pytest

from sadaflow import SADA, Accelerator, Auto, Uniform
from sadaflow.accelerators import DeepCache, FirstBlock, MagCache, ReleasedSADA, TaylorSeer, TeaCache
from sadaflow.checks import check_accelerator, examine_accelerator
from sadaflow.checks.examination import Examination
from sadaflow.checks.laws import FIRST, LAWS
from sadaflow.checks.runs import Case

# Launches are measured below, on their own: methods that loop over samples do not keep them constant.
REST = tuple(measure.name for measure in LAWS if measure.name != "launches")
OURS: dict[str, Callable[[], Accelerator]] = {
    "sada": lambda: SADA(token_trunk=True),
    "sada-nonuniform": lambda: SADA(estimator="nonuniform", tokens=False),
    "sada-no-memory": lambda: SADA(token_memory=0),
    "sada-released": ReleasedSADA,
    "uniform": lambda: Uniform(3, 2),
    "uniform-corrected": lambda: Uniform(2, 1, correct=True),
    "auto": Auto,
}
FEW = ("sada", "auto")
"""The accelerators of the ordinary test run; an examination takes a quarter to half a minute."""
NEVER: dict[str, Callable[[], Accelerator]] = {
    "uniform": lambda: Uniform(every=1),
    "uniform-corrected": lambda: Uniform(every=1, correct=True),
    "auto": lambda: Auto(tolerance=0.0),
}


def _slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FEW)) for name in OURS])
def test_ours(name: str) -> None:
    report = check_accelerator(OURS[name], never=NEVER.get(name), steps=32, laws=REST, solvers=("euler", "heun"))
    assert {measure.name for measure in FIRST} | set(REST) == {law.name for law in report.laws}


@pytest.mark.parametrize("name", OURS)
def test_launches_of_ours(name: str) -> None:
    check_accelerator(OURS[name], laws=("launches",))


@pytest.mark.parametrize(
    ("factory", "never", "refused"),
    [
        (DeepCache, lambda: DeepCache(interval=1), "transformer"),
        _slow(lambda: DeepCache(branch=2, uniform=False), None, "transformer"),
        _slow(FirstBlock, lambda: FirstBlock(threshold=0.0), "U-Net"),
        _slow(lambda: FirstBlock(0.12, front=2, back=1, warmup=4, max_skips=3, max_cached=20), None, "U-Net"),
        _slow(MagCache, lambda: MagCache(max_skips=0), None),
        _slow(TaylorSeer, lambda: TaylorSeer(interval=1), None),
        _slow(TeaCache, lambda: TeaCache(threshold=0.0), "U-Net"),
    ],
    ids=["deepcache", "deepcache-branch", "first-block", "dbcache", "magcache", "taylorseer", "teacache"],
)
def test_rivals_inside_the_network(
    factory: Callable[[], Accelerator], never: Callable[[], Accelerator] | None, refused: str | None
) -> None:
    report = check_accelerator(factory, never=never, laws=REST, solvers=("euler", "heun"))
    wanted = {"[plain callable]", *([] if refused is None else [f"[{refused}]"])}
    assert {law.where for law in report.laws if law.measured.startswith("refused") and law.name == "networks"} == wanted


def test_the_problem_shows_tokens_and_samples_that_decide_apart() -> None:
    """Else the laws on seams and batches would hold of anything."""
    for network in ("U-Net", "transformer"):
        modes = Examination(lambda: SADA(token_trunk=True), 50).made(Case("euler", network)).modes
        assert {mode for line in modes for mode in line} == {"full", "tokens", "stepwise", "multistep"}
        assert len({tuple(line) for line in modes}) >= 3
    modes = Examination(FirstBlock, 50).made(Case("euler")).modes
    assert {mode for line in modes for mode in line} == {"full", "cached"}
    assert any(len(set(step)) == 2 for step in zip(*modes, strict=True))


def test_a_law_that_could_not_fail_is_vacuous_and_may_be_excused() -> None:
    settings = {"laws": ("identity", "determinism"), "steps": 12, "solvers": ("euler",)}
    report = examine_accelerator(lambda: Uniform(every=1), **settings)
    assert {law.name for law in report.failures} == {"identity", "determinism"}
    assert all("vacuous" in law.measured for law in report.failures)
    assert examine_accelerator(lambda: Uniform(every=1), excuse=("identity", "det*"), **settings).passed


def test_a_schedule_that_decides_alike_is_reported_and_excused() -> None:
    report = check_accelerator(Uniform, laws=("batch invariance",), steps=16)
    assert all("decided by the schedule" in law.measured for law in report.laws if law.name == "batch invariance")


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="unknown schedule 'ddpm'.*known are flow, vp, edm"):
        examine_accelerator(Uniform, schedules=("ddpm",))
    with pytest.raises(ValueError, match="unknown law 'speed'.*known are networks"):
        examine_accelerator(Uniform, laws=("speed",))


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    check_accelerator(Uniform, laws=("accounting",), steps=12, progress=True)
    assert "1/1 accounting" in capsys.readouterr().err
    check_accelerator(Uniform, laws=("accounting",), steps=12)
    assert capsys.readouterr().err == ""
