"""Channels-last layout: used on GPUs, with equal outputs, and without a conversion between two layers."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sadaflow import Pipeline
from sadaflow.models import lay_out_channels_last
from sadaflow.placement.placement import Residence

LAST = torch.channels_last


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.from_pretrained("tiny-sd", controlnet="tiny-controlnet")


def run(pipe: Pipeline) -> Tensor:
    control = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    return pipe("red apple", steps=2, height=64, width=64, control=control, output="tensor", progress=False).images


def test_maps_follow_the_weights_through_every_layer(pipe: Pipeline) -> None:
    before = run(pipe)
    handles, met, strays = [], set(), set()

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            met.add(name)
            if not (inputs[0].is_contiguous(memory_format=LAST) and output.is_contiguous(memory_format=LAST)):
                strays.add(name)

        return hook

    for owner, network in pipe.family.networks.items():
        lay_out_channels_last(network)
        for name, module in network.named_modules():
            if isinstance(module, (nn.Conv2d, nn.GroupNorm)):
                handles.append(module.register_forward_hook(look(f"{owner} {name}")))
    after = run(pipe)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)
    firsts = {name for name in met if name.endswith(("conv_in", "post_quant_conv"))}
    assert strays <= firsts and len(met) > 100  # only what comes in is laid out once


@pytest.mark.parametrize(("device", "offload"), [("cuda", None), ("cuda", "model"), ("cpu", None)])
def test_weights_are_laid_out_for_a_gpu(device: str, offload: str | None) -> None:
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Linear(8, 8))
    Residence.read(torch.device(device), offload, None).take({"network": network})
    weight = network[0].weight
    assert weight.is_contiguous(memory_format=LAST) == (device == "cuda")
    assert weight.is_contiguous() == (device == "cpu")
