"""Each rule's output against Diffusers' guiders, or against its paper's formula written out."""

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance
from diffusers.guiders.classifier_free_zero_star_guidance import ClassifierFreeZeroStarGuidance
from diffusers.guiders.guider_utils import rescale_noise_cfg
from torch import Tensor

from sadaflow.guidance import (
    APG,
    CFG,
    Branches,
    CFGPlusPlus,
    CFGZeroStar,
    Compose,
    Cosine,
    Interval,
    Linear,
    Needs,
    Rescale,
    Rule,
    Threshold,
)
from sadaflow.guidance.base import moments_of
from sadaflow.guidance.running import GuidanceRun
from sadaflow.solvers import Node, Prediction

SHAPE = (3, 4, 5, 6)
NODES = tuple(Node(t, 1 - t, t, 1000 * t) for t in (0.9, 0.6, 0.3))


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape or SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run_of(rule: Rule, prediction: Prediction = "sample") -> GuidanceRun:
    return GuidanceRun(rule, NODES, prediction, SHAPE[0])


def guided(rule: Rule, *outputs: Tensor, step: int = 1, prediction: Prediction = "sample") -> Tensor:
    return run_of(rule, prediction).guided(outputs, drawn(9), step, range(SHAPE[0]))


NEGATIVE, CONDITIONAL = drawn(1), drawn(2)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("momentum", "threshold"), [(0.0, 0.0), (-0.5, 4.0), (0.3, 0.0)])
def test_apg_is_that_of_diffusers_over_three_steps(eta: float, momentum: float, threshold: float) -> None:
    run, buffer = run_of(APG(4.0, eta=eta, momentum=momentum, threshold=threshold)), MomentumBuffer(momentum)
    for step in range(3):
        u, c = drawn(10 + step), drawn(20 + step)
        expected = normalized_guidance(c, u, 4.0 - 1, buffer, eta, threshold, use_original_formulation=True)
        assert torch.allclose(run.guided((u, c), drawn(9), step, range(3)), expected, atol=1e-9)


def test_apg_of_a_vector() -> None:
    u, c = torch.tensor([[[[0.0, -1.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    run = GuidanceRun(APG(3.0, threshold=0, momentum=0), NODES, "sample", 1)
    assert run.guided((u, c), torch.zeros_like(u), 0, [0]).flatten().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("prediction", ["epsilon", "flow_prediction"])
def test_rules_in_x0_do_not_depend_on_what_the_network_predicts(prediction: Prediction) -> None:
    for rule in (APG(4.0), Threshold(CFG(5.0), quantile=0.8, limit=0.5)):
        run, x = run_of(rule, prediction), drawn(9)
        branches = Branches((), x, range(3), run.moments[1], prediction)
        outputs = [branches.output(x0) for x0 in (NEGATIVE, CONDITIONAL)]
        found = branches.x0(run.guided(outputs, x, 1, range(3)))
        assert torch.allclose(found, guided(rule, NEGATIVE, CONDITIONAL), atol=1e-9)


def test_zero_star_is_that_of_diffusers() -> None:
    theirs = ClassifierFreeZeroStarGuidance(guidance_scale=4.0, zero_init_steps=1)
    u, c = NEGATIVE.float(), CONDITIONAL.float()
    run = run_of(CFGZeroStar(4.0), "flow_prediction")
    for step in (1, 2):
        theirs.set_state(step, len(NODES), torch.tensor(0))
        assert torch.allclose(run.guided((u, c), u, step, range(3)), theirs.forward(c, u).pred, atol=1e-6)
    assert [run.needs(step) for step in range(3)] == [Needs.NOTHING, Needs.ALL, Needs.ALL]
    assert [run.share(step) for step in range(3)] == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("phi", [0.0, 0.3, 1.0])
def test_rescale_is_that_of_diffusers(phi: float) -> None:
    expected = rescale_noise_cfg(NEGATIVE + 7 * (CONDITIONAL - NEGATIVE), CONDITIONAL, phi)
    assert torch.allclose(guided(Rescale(CFG(7.0), phi), NEGATIVE, CONDITIONAL), expected, atol=1e-9)


@pytest.mark.parametrize("quantile", [0.9, 0.995, 1.0])
def test_thresholding_is_that_of_diffusers(quantile: float) -> None:
    theirs = DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=quantile, sample_max_value=1e9)
    expected = theirs._threshold_sample(NEGATIVE + 3 * (CONDITIONAL - NEGATIVE))
    assert torch.allclose(guided(Threshold(CFG(3.0), quantile), NEGATIVE, CONDITIONAL), expected, atol=1e-9)
    doubled = guided(Threshold(CFG(3.0), quantile, limit=2.0), 2 * NEGATIVE, 2 * CONDITIONAL)
    assert torch.allclose(doubled, 2 * expected, atol=1e-9)


def test_each_sample_has_its_own_scale_and_1_is_the_conditional_prediction() -> None:
    found = guided(CFG((1.0, 3.0, 7.0)), NEGATIVE, CONDITIONAL)
    assert torch.equal(found[0], CONDITIONAL[0])
    for row, scale in ((1, 3), (2, 7)):
        assert torch.allclose(found[row], NEGATIVE[row] + scale * (CONDITIONAL - NEGATIVE)[row])
    some = run_of(CFG((1.0, 3.0, 7.0))).guided((NEGATIVE[2:], CONDITIONAL[2:]), NEGATIVE[2:], 0, [2])
    assert torch.equal(some[0], found[2])


def test_scales_follow_the_step() -> None:
    moments = moments_of(NODES)
    assert [Linear(7, 1)(moment) for moment in moments] == [7, 4, 1]
    for moment in moments:
        assert Cosine(7, 1)(moment) == pytest.approx(1 + 6 * math.cos(math.pi * moment.step / 4) ** 2)
    found = guided(CFG(lambda moment: moment.noise), NEGATIVE, CONDITIONAL)
    assert torch.allclose(found, NEGATIVE + 1.5 * (CONDITIONAL - NEGATIVE))
    assert run_of(CFG(Linear(7, 1))).needs(2) is Needs.CONDITIONAL


def test_an_interval_is_one_of_noise_levels() -> None:
    run = run_of(Interval(CFG(7.0), low=0.5, high=1.5))  # the levels are 9, 1.5 and 3/7
    assert [run.needs(step) for step in range(3)] == [Needs.CONDITIONAL, Needs.ALL, Needs.CONDITIONAL]
    assert [run.share(step) for step in range(3)] == [0.5, 1.0, 0.5]
    assert torch.equal(guided(run.rule, NEGATIVE, CONDITIONAL), guided(CFG(7.0), NEGATIVE, CONDITIONAL))


def test_conditions_add_up() -> None:
    other, third = drawn(3), drawn(4)
    rule = Compose(CFG(6.0), weights=(0.5, -0.25))
    difference = (CONDITIONAL - NEGATIVE) + 0.5 * (other - NEGATIVE) - 0.25 * (third - NEGATIVE)
    assert torch.allclose(guided(rule, NEGATIVE, other, third, CONDITIONAL), NEGATIVE + 6 * difference)
    assert run_of(Interval(rule, high=1.0)).share(0) == 1 / 4


@pytest.mark.parametrize("scale", [0.3, 0.6, 1.0])
def test_cfg_plus_plus_takes_the_step_of_its_paper(scale: float) -> None:
    """Algorithm 2 on alpha-bar, as printed: x0 from the guided noise, renoised with that of the negative branch."""
    x, eps = drawn(9), (NEGATIVE, CONDITIONAL)
    points = [(0.3, 0.95), (0.7, 0.71), (0.95, 0.3)]
    nodes = [Node(1 - a, a, (1 - a * a) ** 0.5, 0.0) for a, _ in points]
    run = GuidanceRun(CFGPlusPlus(scale), nodes, "epsilon", 3)
    for step, (here, following) in enumerate(zip(nodes, [*nodes[1:], Node(0, 1.0, 0.0, 0.0)], strict=True)):
        led = eps[0] + scale * (eps[1] - eps[0])
        x0 = (x - here.sigma * led) / here.alpha
        expected = following.alpha * x0 + following.sigma * eps[0]
        used = run.guided(eps, x, step, range(3))
        ours = (x - here.sigma * used) / here.alpha
        found = following.alpha * ours + following.sigma * (x - here.alpha * ours) / here.sigma  # DDIM
        assert torch.allclose(found, expected, atol=1e-9)


WRONG: list[tuple[Any, str]] = [
    (lambda: CFG(math.nan), "CFG.scale must be a finite number, got nan"),
    (lambda: CFG(()), "CFG.scale must be a number, one for each sample"),
    (lambda: CFG(True), "CFG.scale must be a finite number, got True"),
    (lambda: run_of(CFG(lambda moment: math.inf)), "CFG.scale at step 0 of 3"),
    (lambda: APG(momentum=1.0), "APG.momentum"),
    (lambda: APG(threshold=-1.0), "APG.threshold"),
    (lambda: Rescale(CFG(), 1.5), "Rescale.phi must lie between 0 and 1, got 1.5"),
    (lambda: Interval(CFG(), 3.0, 1.0), "0 <= low < high"),
    (lambda: Threshold(CFG(), quantile=0.0), "Threshold.quantile"),
    (lambda: Compose(CFG(), (0.5,), ("a", "b")), "a weight for each prompt"),
    (lambda: CFGPlusPlus(7.0), "CFGPlusPlus.scale must lie between 0 and 1"),
    (lambda: CFGZeroStar(zero_steps=-1), "CFGZeroStar.zero_steps"),
    (lambda: run_of(CFGZeroStar(zero_steps=3), "flow"), "leaves none of 3 evaluations"),
    (lambda: run_of(CFGZeroStar(), "v_prediction"), "this network predicts v_prediction"),
    (lambda: GuidanceRun(CFGPlusPlus(), NODES[::-1], "sample", 1), "CFG\\+\\+ needs a solver with one evaluation"),
]


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_wrong_settings_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
