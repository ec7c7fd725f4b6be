"""Published rules inside the network, decision by decision and answer by answer against their formulas.

A run is recorded; at each of its states the network is run plainly, with hooks on its modules, and the rules are
written here anew, over what the hooks saw. Nothing is shared with the accelerators but the layers of the network. All
is float64 on networks with random weights, guided by two branches.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadaflow import Pipeline, sample
from sadaflow.accelerators import Accelerator, DeepCache, FirstBlock, MagCache, TaylorSeer, TeaCache
from sadaflow.accelerators.caching.magcache import FLUX_DEV
from sadaflow.models import FluxTransformer, Site, UNet, call_through
from sadaflow.models.embeddings import sinusoids
from sadaflow.models.rope import after_text, rotary_table
from sadaflow.sampling import GuidedDenoiser, Trace
from sadaflow.sampling.calibration import magcache_ratios, teacache_coefficients, teacache_pairs
from sadaflow.solvers import Grid, RectifiedFlow, Solver, make_solver
from support.networks import small_flux, small_unet

GUIDANCE, STEPS, SIZE = 2.0, 24, (8, 6)
Array = np.ndarray[Any, Any]
Expected = list[tuple[str, Tensor]]
"""Of each step of a sample, the mode and the guided prediction (C, h, w)."""


def solver_of(steps: int = STEPS) -> Solver:
    times = torch.linspace(0.98, 0.0, steps + 1, dtype=torch.float64)
    return make_solver("euler", Grid.from_t(RectifiedFlow(), times))


@pytest.fixture(scope="module")
def flux() -> FluxTransformer:
    return small_flux(single=3)


@pytest.fixture(scope="module")
def pipes() -> Mapping[str, Pipeline]:
    return {name: Pipeline.from_pretrained(name) for name in ("tiny-sd", "tiny-flux")}


@pytest.fixture(scope="module")
def unet() -> UNet:
    return small_unet()


def conditioning(net: nn.Module) -> list[dict[str, Tensor]]:
    """Of the negative and the conditional branch, for two samples that differ."""
    generator = torch.Generator().manual_seed(2)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator, dtype=torch.float64) * torch.tensor([0.3, 3.0]).view(
            -1, *(1,) * len(shape)
        )

    pooled = isinstance(net, FluxTransformer)
    return [{"context": drawn(5, 12), **({"pooled": drawn(10)} if pooled else {})} for _ in range(2)]


def recorded(net: Any, accelerator: Accelerator) -> Trace:
    solver, (negative, conditional) = solver_of(), conditioning(net)
    denoise = GuidedDenoiser(net, solver.nodes, "flow", conditional, negative, GUIDANCE, torch.float64)
    noise = torch.randn(2, 2, *SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    trace = sample(solver, denoise, noise, accelerator, trace=True).trace
    assert trace is not None
    return trace


def compare(trace: Trace, expected: list[Expected], modes: set[str]) -> None:
    """Modes and answers of both samples; both modes occur."""
    for row, steps in enumerate(expected):
        assert list(trace.modes[row]) == [mode for mode, _ in steps]
        predictions = torch.stack([prediction for _, prediction in steps])
        x0 = trace.x[row] - trace.sigma.view(-1, 1, 1, 1) * predictions  # of rectified flow
        torch.testing.assert_close(trace.x0[row], x0, rtol=1e-9, atol=1e-10)
    assert {mode for line in trace.modes for mode in line} == modes


class Branch:
    """What one branch of guidance computes for one sample at one recorded state, all of it, in the transformer."""

    def __init__(self, net: FluxTransformer, x: Tensor, timestep: float, inputs: Mapping[str, Tensor]) -> None:
        self.net = net
        self.joint: list[Tensor] = []
        blocks = [*net.transformer_blocks, *net.single_transformer_blocks]
        hooks = [block.register_forward_hook(lambda _, __, output: self.joint.append(output)) for block in blocks]
        hooks.append(blocks[0].register_forward_pre_hook(lambda _, args: self.joint.append(args[0])))
        self.plain = net(x[None], timestep, **inputs)
        for hook in hooks:
            hook.remove()
        self.length = inputs["context"].shape[1]
        rope = rotary_table((SIZE[0] // 2, SIZE[1] // 2), net.config.axes_dims_rope, torch.device("cpu"))
        self.rope = after_text(rope[None], self.length)
        embed, pooled = net.time_text_embed, inputs["pooled"]
        features = sinusoids(torch.tensor([timestep], dtype=pooled.dtype), 256).to(pooled.dtype)
        self.time = F.silu(embed.timestep_embedder(features) + embed.text_embedder(pooled))

    def image(self, block: int) -> Tensor:
        """Image tokens behind so many blocks; -1: behind all."""
        return self.joint[block][:, self.length :]

    @property
    def modulated(self) -> Array:
        """Image tokens at the door of the first block's attention: layer norm, scaled and shifted."""
        tokens = self.image(0).numpy()
        tokens = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-6)
        linear = self.net.transformer_blocks[0].norm1.linear
        shift, scale = linear(self.time)[:, None].chunk(6, dim=-1)[:2]
        return tokens * (1 + scale.numpy()) + shift.numpy()

    def head(self, image: Tensor) -> Tensor:
        """The prediction (C, h, w) from image tokens behind the blocks."""
        scale, shift = self.net.norm_out.linear(self.time)[:, None].chunk(2, dim=-1)
        tokens = self.net.proj_out(F.layer_norm(image, image.shape[-1:], eps=1e-6) * (1 + scale) + shift)
        h, w = SIZE[0] // 2, SIZE[1] // 2
        return tokens.reshape(h, w, -1, 2, 2).permute(2, 0, 3, 1, 4).reshape(-1, *SIZE)


def guided(branches: list[Tensor]) -> Tensor:
    return branches[0] + GUIDANCE * (branches[1] - branches[0])


def states(net: FluxTransformer, trace: Trace, row: int) -> Iterator[list[Branch]]:
    """The branches of a sample at each step."""
    inputs = [{name: value[row : row + 1] for name, value in branch.items()} for branch in conditioning(net)]
    for step in range(STEPS):
        yield [Branch(net, trace.x[row, step], float(trace.timestep[step]), branch) for branch in inputs]


def l1(new: list[Any], old: list[Any]) -> float:
    """mean |new - old| / mean |old|, over both branches."""
    new, old = (np.stack([np.asarray(one) for one in both]) for both in (new, old))
    return float(np.abs(new - old).mean() / np.abs(old).mean())


COEFFICIENTS = (3.0, -1.5, 2.0, 0.004)


@pytest.mark.parametrize("threshold", [0.1, 0.2])
def test_teacache(flux: FluxTransformer, threshold: float) -> None:
    def expected(trace: Trace, row: int) -> Iterator[tuple[str, Tensor]]:
        total, before, kept = 0.0, [np.empty(0)], [torch.empty(0)]
        for step, branches in enumerate(states(flux, trace, row)):
            indicator = [branch.modulated for branch in branches]
            if step in (0, STEPS - 1):
                full = True
            else:
                total += float(np.poly1d(COEFFICIENTS)(l1(indicator, before)))
                full = not total < threshold
            before = indicator
            if full:
                total, kept = 0.0, [branch.image(-1) - branch.image(0) for branch in branches]
            answers = [branch.head(branch.image(0) + part) for branch, part in zip(branches, kept, strict=True)]
            yield "full" if full else "cached", guided(answers)

    trace = recorded(flux, TeaCache(threshold, COEFFICIENTS))
    compare(trace, [list(expected(trace, row)) for row in range(2)], {"full", "cached"})
    assert trace.modes[0] != trace.modes[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 0.25},
        {"threshold": 0.3, "max_skips": 2, "warmup": 4},
        {"threshold": 0.3, "front": 2, "back": 1, "max_cached": 9},
    ],
    ids=["first-block", "bounded", "dbcache"],
)
def test_first_block(flux: FluxTransformer, settings: dict[str, Any]) -> None:
    front, back = settings.get("front", 1), settings.get("back", 0)

    def expected(trace: Trace, row: int) -> Iterator[tuple[str, Tensor]]:
        kept_front, kept_rest = [torch.empty(0)], [torch.empty(0)]
        in_a_row = in_all = 0
        for step, branches in enumerate(states(flux, trace, row)):
            change = [branch.image(front) - branch.image(0) for branch in branches]
            full = step < max(1, settings.get("warmup", 0)) or in_a_row == settings.get("max_skips", -1)
            full = full or in_all == settings.get("max_cached", -1) or l1(change, kept_front) >= settings["threshold"]
            if full:
                in_a_row, kept_front = 0, change
                kept_rest = [branch.joint[-1 - back] - branch.joint[front] for branch in branches]
            else:
                in_a_row, in_all = in_a_row + 1, in_all + 1
            answers = []
            for branch, rest in zip(branches, kept_rest, strict=True):
                joint = branch.joint[front] + rest
                for block in list(flux.single_transformer_blocks)[3 - back :]:
                    site = Site("block", "last", 0, (1, 1))
                    parts = block.norm.linear(branch.time)
                    joint = block(joint, parts, branch.rope, seam=call_through, site=site)
                answers.append(branch.head(joint[:, branch.length :]))
            yield "full" if full else "cached", guided(answers)

    trace = recorded(flux, FirstBlock(**settings))
    compare(trace, [list(expected(trace, row)) for row in range(2)], {"full", "cached"})


def taylor(steps: int, interval: int, order: int, first: int) -> Iterator[tuple[bool, Callable[[Any], Any]]]:
    """Whether each step is full, and what turns its residual, unknown at the others, into the one that is used."""
    counter, activated, factors = 0, [], dict[int, Any]()
    for step in range(steps):
        full = step < first or counter == interval - 1
        counter = 0 if full else counter + 1

        def used(residual: Any, step: int = step, full: bool = full) -> Any:
            nonlocal factors
            if not full:
                ahead = step - activated[-1]
                return sum(factors[k] * ahead**k / math.factorial(k) for k in factors)
            distance = step - activated[-1] if activated else 1
            activated.append(step)
            new = {0: residual}
            for k in range(order):
                if k not in factors or step <= first - 2:
                    break
                new[k + 1] = (new[k] - factors[k]) / distance
            factors = new
            return residual

        yield full, used


@pytest.mark.parametrize(("interval", "order", "first"), [(6, 1, 3), (4, 2, 3), (3, 3, 5)])
def test_taylorseer(flux: FluxTransformer, interval: int, order: int, first: int) -> None:
    def expected(trace: Trace, row: int) -> Iterator[tuple[str, Tensor]]:
        series = taylor(STEPS, interval, order, first)
        for branches, (full, used) in zip(states(flux, trace, row), series, strict=True):
            residual = used(torch.stack([branch.image(-1) - branch.image(0) for branch in branches]))
            answers = [branch.head(branch.image(0) + part) for branch, part in zip(branches, residual, strict=True)]
            yield "full" if full else "cached", guided(answers)

    trace = recorded(flux, TaylorSeer(interval, order, first))
    compare(trace, [list(expected(trace, row)) for row in range(2)], {"full", "cached"})


def magcache(steps: int, threshold: float, most: int, retention: float) -> list[bool]:
    """Whether each step is full: the published loop for Flux.1 dev."""
    places = np.round(np.arange(steps) * (27 / (steps - 1))).astype(int)
    scale, skipped, error, full = 1.0, 0, 0.0, []
    for step in range(steps):
        skip = False
        if step >= int(retention * steps + 0.5):
            scale *= FLUX_DEV[places[step]]
            skipped += 1
            error += abs(1 - scale)
            if error <= threshold and skipped <= most and places[step] != 11:
                skip = True
            else:
                scale, skipped, error = 1.0, 0, 0.0
        full.append(not skip)
    return full


@pytest.mark.parametrize(("threshold", "most", "retention"), [(0.24, 5, 0.1), (0.06, 3, 0.2)])
def test_magcache(flux: FluxTransformer, threshold: float, most: int, retention: float) -> None:
    schedule = magcache(STEPS, threshold, most, retention)

    def expected(trace: Trace, row: int) -> Iterator[tuple[str, Tensor]]:
        kept = [torch.empty(0)]
        for full, branches in zip(schedule, states(flux, trace, row), strict=True):
            if full:
                kept = [branch.image(-1) - branch.image(0) for branch in branches]
            answers = [branch.head(branch.image(0) + part) for branch, part in zip(branches, kept, strict=True)]
            yield "full" if full else "cached", guided(answers)

    trace = recorded(flux, MagCache(threshold, most, retention))
    compare(trace, [list(expected(trace, row)) for row in range(2)], {"full", "cached"})


def test_magcache_schedules() -> None:
    """That of the published demo, known from its run; and the transcription's at other numbers of steps."""
    assert MagCache().full_steps(28) == {0, 1, 2, 5, 9, 11, 17, 23, 26}
    for steps in (10, 28, 50, 75):
        full = [step for step, one in enumerate(magcache(steps, 0.24, 5, 0.1)) if one]
        assert sorted(MagCache().full_steps(steps)) == full


def published_full_steps(steps: int, interval: int, centre: int, power: float) -> list[int]:
    """DeepCache's non-uniform schedule, with complex roots as the published code has them."""
    wanted = math.ceil(steps / interval)
    while power > 1:
        ends = np.linspace((-centre) ** (1 / power), (steps - centre) ** (1 / power), wanted + 1)
        offsets = np.unique(np.int32((ends**power).real))[1:-1]
        found = [0, *(int(offset) + centre for offset in offsets)]
        if len(found) == wanted:
            return found
        power -= 0.02
    raise AssertionError("no power fits")


def test_deepcache_schedules() -> None:
    for steps, interval in ((50, 5), (50, 3), (50, 2), (24, 3), (20, 3)):
        settings = DeepCache(interval, uniform=False)
        assert sorted(settings.full_steps(steps)) == published_full_steps(steps, interval, round(0.3 * steps), 1.4)
        assert sorted(DeepCache(interval).full_steps(steps)) == [i for i in range(steps) if i % interval == 0]


@pytest.mark.parametrize(("branch", "uniform"), [(0, True), (1, True), (0, False)])
def test_deepcache(unet: UNet, branch: int, uniform: bool) -> None:
    """A cached step is the last layers of the network, on what a hook saw come from below at the last full step."""
    trace = recorded(unet, DeepCache(3, branch, uniform))
    up: Any = unet.up_blocks[-1]
    full = [i for i in range(STEPS) if i % 3 == 0] if uniform else published_full_steps(STEPS, 3, 7, 1.4)

    def layer(level: Any, index: int, hidden: Tensor, time: Tensor, context: Tensor) -> Tensor:
        resnet, transformer = level.resnets[index], level.attentions[index]
        texts = {
            f".transformer_blocks.{i}": block.attn2.keys_and_values(context)
            for i, block in enumerate(transformer.transformer_blocks)
        }
        hidden = resnet(hidden, resnet.time_emb_proj(F.silu(time)))
        return transformer(hidden, texts, lambda _, fn, *args: fn(*args), "", 0)

    def answer(x: Tensor, timestep: float, context: Tensor, below: dict[str, Tensor], whole: bool) -> Tensor:
        if whole:
            keep = up.resnets[-1 - branch].register_forward_pre_hook(lambda _, args: below.update(all=args[0]))
            prediction = unet(x, timestep, context)
            keep.remove()
            return prediction[0]
        features = sinusoids(torch.tensor([timestep]), unet.config.block_out_channels[0]).to(x.dtype)
        time = unet.time_embedding(features)
        skips = [unet.conv_in(x)]
        for index in range(branch):
            skips.append(layer(unet.down_blocks[0], index, skips[-1], time, context))
        hidden = below["all"][:, : -skips[branch].shape[1]]
        for index in reversed(range(branch + 1)):
            hidden = layer(up, 2 - index, torch.cat((hidden, skips[index]), dim=1), time, context)
        return unet.conv_out(F.silu(unet.conv_norm_out(hidden)))[0]

    def expected(row: int) -> Iterator[tuple[str, Tensor]]:
        below: list[dict[str, Tensor]] = [{}, {}]
        for step in range(STEPS):
            answers = [
                answer(trace.x[row, step][None], float(trace.timestep[step]), inputs["context"][row : row + 1], kept,
                       step in full)
                for inputs, kept in zip(conditioning(unet), below, strict=True)
            ]  # fmt: skip
            yield "full" if step in full else "cached", guided(answers)

    compare(trace, [list(expected(row)) for row in range(2)], {"full", "cached"})


def test_residuals_of_a_unet(unet: UNet) -> None:
    """MagCache and TaylorSeer keep what lies between a U-Net's first and last convolution."""
    for accelerator in (MagCache(), TaylorSeer(4, 2)):
        schedule = accelerator.full_steps(STEPS)
        trace = recorded(unet, accelerator)
        for row in range(2):
            series = list(taylor(STEPS, 4, 2, 3))
            kept: Any = None
            for step in range(STEPS):
                seen: list[Tensor] = []
                hook = unet.conv_norm_out.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
                x, timestep = trace.x[row, step][None], float(trace.timestep[step])
                for inputs in conditioning(unet):
                    unet(x, timestep, inputs["context"][row : row + 1])
                hook.remove()
                residual = torch.cat(seen) - unet.conv_in(x)
                if isinstance(accelerator, TaylorSeer):
                    kept = series[step][1](residual)
                elif step in schedule:
                    kept = residual
                ends = unet.conv_out(F.silu(unet.conv_norm_out(unet.conv_in(x) + kept)))
                x0 = x[0] - trace.sigma[step] * guided([ends[0], ends[1]])
                torch.testing.assert_close(trace.x0[row, step], x0, rtol=1e-9, atol=1e-10)
                assert trace.modes[row][step] == ("full" if step in schedule else "cached")


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
