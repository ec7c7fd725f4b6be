"""Every accelerator of the library passes `check_accelerator`, on networks where its samples decide differently."""

from collections.abc import Callable

import pytest

from sadaflow import SADA, Accelerator, Auto, Uniform
from sadaflow.accelerators import DeepCache, FirstBlock, MagCache, ReleasedSADA, TaylorSeer, TeaCache
from sadaflow.checks import check_accelerator


@pytest.mark.parametrize(
    ("factory", "never", "steps"),
    [
        (lambda: SADA(token_trunk=True), None, 50),
        (lambda: SADA(estimator="nonuniform", tokens=False), None, 32),
        (lambda: SADA(token_memory=0), None, 32),
        (ReleasedSADA, None, 32),
        (lambda: Uniform(3, 2), lambda: Uniform(every=1), 32),
        (lambda: Uniform(2, 1, correct=True), lambda: Uniform(every=1, correct=True), 32),
    ],
    ids=["sada", "sada-nonuniform", "sada-no-memory", "sada-released", "uniform", "uniform-corrected"],
)
def test_ours(factory: Callable[[], Accelerator], never: Callable[[], Accelerator] | None, steps: int) -> None:
    report = check_accelerator(factory, never=never, steps=steps)
    assert {law.name for law in report.laws} == {
        "networks", "runs", "identity", "batch invariance", "inputs kept", "accounting", "full is full", "shapes",
        "solvers", "accuracy", "determinism", "state", "memory", "few steps", "dtype",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("factory", "never", "refused"),
    [
        (DeepCache, lambda: DeepCache(interval=1), "transformer"),
        (lambda: DeepCache(branch=2, uniform=False), None, "transformer"),
        (FirstBlock, lambda: FirstBlock(threshold=0.0), "U-Net"),
        (lambda: FirstBlock(0.12, front=2, back=1, warmup=4, max_skips=3, max_cached=20), None, "U-Net"),
        (MagCache, lambda: MagCache(max_skips=0), None),
        (TaylorSeer, lambda: TaylorSeer(interval=1), None),
        (TeaCache, lambda: TeaCache(threshold=0.0), "U-Net"),
    ],
    ids=["deepcache", "deepcache-branch", "first-block", "dbcache", "magcache", "taylorseer", "teacache"],
)
def test_rivals_inside_the_network(
    factory: Callable[[], Accelerator], never: Callable[[], Accelerator] | None, refused: str | None
) -> None:
    report = check_accelerator(factory, never=never, steps=32, solvers=("euler", "heun"))
    wanted = {"[plain callable]", *([] if refused is None else [f"[{refused}]"])}
    assert {law.where for law in report.laws if law.measured.startswith("refused") and law.name == "networks"} == wanted


def test_auto() -> None:
    check_accelerator(Auto, never=lambda: Auto(tolerance=0.0), steps=32)
    check_accelerator(lambda: Auto(speedup=2.0), never=lambda: Auto(speedup=1.0), steps=32, solvers=("euler",))


def test_the_problem_shows_tokens_and_samples_that_decide_apart() -> None:
    """Else the laws on seams and batches would hold of anything."""
    from sadaflow.checks.laws import Examination

    for network in ("U-Net", "transformer"):
        modes = Examination(lambda: SADA(token_trunk=True), 50, 3.0).run(solver="euler", network=network).modes
        assert {mode for line in modes for mode in line} == {"full", "tokens", "stepwise", "multistep"}
        assert len({tuple(line) for line in modes}) >= 3
    modes = Examination(FirstBlock, 50, 3.0).run(solver="euler").modes
    assert {mode for line in modes for mode in line} == {"full", "cached"}
    assert any(len(set(step)) == 2 for step in zip(*modes, strict=True))
