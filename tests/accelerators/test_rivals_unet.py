"""DeepCache and cached residuals on a U-Net, decision by decision against their published formulas."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sadaflow.accelerators import DeepCache, MagCache, TaylorSeer
from sadaflow.models import FluxTransformer, UNet
from sadaflow.models.embeddings import sinusoids
from support.networks import small_flux, small_unet
from support.rivals import STEPS, compare, conditioning, guided, recorded, taylor


@pytest.fixture(scope="module")
def flux() -> FluxTransformer:
    return small_flux(single=3)


@pytest.fixture(scope="module")
def unet() -> UNet:
    return small_unet()


COEFFICIENTS = (3.0, -1.5, 2.0, 0.004)


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
