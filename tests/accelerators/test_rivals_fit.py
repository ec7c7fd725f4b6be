"""Rivals inside the network: which networks fit, and calibration of TeaCache and MagCache."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sadaflow import Pipeline, sample
from sadaflow.accelerators import Accelerator, DeepCache, FirstBlock, SeaCache, TeaCache
from sadaflow.models import FluxTransformer, Site, UNet
from sadaflow.sampling import GuidedDenoiser
from sadaflow.sampling.calibration import magcache_ratios, teacache_coefficients, teacache_pairs
from support import gaussians
from support.networks import small_flux, small_unet
from support.rivals import GUIDANCE, SIZE, STEPS, Branch, conditioning, l1, recorded, solver_of, states


@pytest.fixture(scope="module")
def flux() -> FluxTransformer:
    return small_flux(single=3)


@pytest.fixture(scope="module")
def pipes() -> Mapping[str, Pipeline]:
    return {name: Pipeline.from_pretrained(name) for name in ("tiny-sd", "tiny-flux")}


@pytest.fixture(scope="module")
def unet() -> UNet:
    return small_unet()


COEFFICIENTS = (3.0, -1.5, 2.0, 0.004)


@pytest.mark.parametrize(
    ("model", "name", "fits"),
    [
        ("tiny-sd", "teacache", False),
        ("tiny-sd", "uniform+first-block", False),
        ("tiny-flux", "deepcache", False),
        *[(model, name, True) for model in ("tiny-sd", "tiny-flux") for name in ("taylorseer", "sada", "magcache")],
        ("tiny-sd", "uniform+deepcache", True),
        ("tiny-flux", "first-block", True),
    ],
)
def test_a_pipeline_knows_what_fits_before_it_reads_a_prompt(
    model: str, name: str, fits: bool, pipes: Mapping[str, Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipes[model]

    def read(request: Any) -> Any:
        raise InterruptedError

    monkeypatch.setattr(pipe.family, "condition", read)
    refusal: Any = pytest.raises(ValueError, match="which this network does not have")
    with pytest.raises(InterruptedError) if fits else refusal:
        pipe("a", steps=20, accelerator=name)


def test_networks_tell_the_kinds_of_their_sites(unet: UNet, flux: FluxTransformer) -> None:
    for net in (unet, flux):
        met = set()

        def seam(site: Site, fn: Any, hidden: Tensor, *args: Any, met: set[str] = met) -> Tensor:
            met.add(site.kind)
            return fn(hidden, *args)

        net(torch.zeros(2, 2, 8, 8).double(), 500.0, **conditioning(net)[0], seam=seam)
        assert met == net.sites


@pytest.mark.parametrize("accelerator", [TeaCache(), FirstBlock(), DeepCache(branch=6)])
def test_networks_without_what_a_rule_needs(unet: UNet, flux: FluxTransformer, accelerator: Accelerator) -> None:
    """Said after one evaluation, with the reason."""
    net = flux if isinstance(accelerator, DeepCache) else unet
    with pytest.raises(ValueError, match=r"accelerator '.*' needs a (transformer|U-Net).*this network does not have"):
        recorded(net, accelerator)
    with pytest.raises(ValueError, match="acts inside the network, and this denoiser is a plain callable"):
        sample(solver_of(), lambda x, step: x, torch.randn(1, 2, 4, 4), accelerator)


def plain_branches(flux: FluxTransformer) -> tuple[GuidedDenoiser, Tensor, list[list[list[Branch]]]]:
    """A denoiser, its noise, and what its branches compute for each sample at each step of a plain run."""
    solver, (negative, conditional) = solver_of(), conditioning(flux)
    denoise = GuidedDenoiser(flux, solver.nodes, "flow", conditional, negative, GUIDANCE, torch.float64)
    noise = torch.randn(2, 2, *SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    trace = sample(solver, denoise, noise, trace=True).trace
    assert trace is not None
    return denoise, noise, [list(states(flux, trace, row)) for row in range(2)]


def test_calibration(flux: FluxTransformer) -> None:
    """Ratios of residuals and TeaCache's pairs, against their definitions over a plain run."""
    denoise, noise, seen = plain_branches(flux)
    ratios, pairs = [1.0], []
    for step in range(1, STEPS):
        fractions = []
        for samples in seen:
            new, old = ([branch.image(-1) - branch.image(0) for branch in samples[i]] for i in (step, step - 1))
            fractions += [a.numpy() for a in (torch.stack(new).norm(dim=-1) / torch.stack(old).norm(dim=-1))]
            inputs = [[branch.modulated for branch in samples[i]] for i in (step, step - 1)]
            pairs.append((l1(*inputs), l1(new, old)))
        ratios.append(float(np.mean(fractions)))
    assert magcache_ratios(solver_of(), denoise, noise) == pytest.approx(ratios, rel=1e-9)
    found = teacache_pairs(solver_of(), denoise, noise)
    assert np.array(found) == pytest.approx(np.array(pairs), rel=1e-9)


def test_the_fit_of_teacache() -> None:
    """Pairs on a known polynomial give it back; too few are refused."""
    pairs = [(r, float(np.poly1d(COEFFICIENTS)(r))) for r in np.linspace(0.01, 0.4, 30)]
    assert teacache_coefficients(pairs, degree=3) == pytest.approx(COEFFICIENTS, rel=1e-6)
    assert len(teacache_coefficients(pairs)) == 5
    with pytest.raises(ValueError, match="degree 4 needs more than 4 pairs, got 3"):
        teacache_coefficients(pairs[:3])


def test_nothing_to_calibrate(unet: UNet) -> None:
    """A U-Net has residuals to record, and no indicator."""
    negative, conditional = conditioning(unet)
    denoise = GuidedDenoiser(unet, solver_of().nodes, "flow", conditional, negative, GUIDANCE, torch.float64)
    noise = torch.randn(2, 2, *SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert len(magcache_ratios(solver_of(), denoise, noise)) == STEPS
    with pytest.raises(ValueError, match="nothing to record"):
        teacache_pairs(solver_of(), denoise, noise)


def test_a_change_that_reaches_the_threshold_is_computed(flux: FluxTransformer) -> None:
    """Half of the threshold is added at every step, whatever the network does, so that every second one is computed."""
    trace = recorded(flux, TeaCache(coefficients=(0.5,), threshold=1.0))
    expected = ["full" if step % 2 == 0 else "cached" for step in range(STEPS - 1)]
    assert [modes[: STEPS - 1] for modes in map(list, trace.modes)] == [expected] * 2


def test_seacache_needs_a_step_that_it_may_skip() -> None:
    kept = SeaCache(first=2, last=2)
    kept.begin(gaussians.solver_of(5), torch.Size((1, 2, 4, 4)), seams=False)
    with pytest.raises(ValueError, match="'seacache' with first=2, last=2.* at least 5 steps, got 4"):
        kept.begin(gaussians.solver_of(4), torch.Size((1, 2, 4, 4)), seams=False)
