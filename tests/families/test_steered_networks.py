"""Transformers with ControlNets: their sites, divided tokens, and where their weights may be."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sadaflow import Pipeline
from sadaflow.checks import check_seams
from sadaflow.families import Request
from sadaflow.models import Site, call_through
from sadaflow.pipeline.control import Control
from support.checkpoints_flux import flux
from support.checkpoints_sd3 import sd3
from support.checkpoints_steered import flux_controlnet, sd3_controlnet
from support.divided import in_two_processes
from support.pictures import picture, relative

SIZE = {"height": 24, "width": 16}
CALL: dict[str, Any] = {**SIZE, "max_sequence_length": 24, "steps": 3}


@dataclass(frozen=True)
class Made:
    """A checkpoint, a ControlNet for it, and the arguments of its calls."""

    base: Path
    net: Path
    call: dict[str, Any]

    @property
    def request(self) -> Request:
        return Request(prompt=("a fox", "a red apple"), guidance=1.0, **self.call)

    def loaded(self, **how: Any) -> Pipeline:
        return Pipeline.from_pretrained(self.base, controlnet=self.net, **how)

    def latents(self, pipe: Pipeline) -> Tensor:
        latents: Tensor = pipe(["a fox", "a red apple"], seed=[1, 2], output="latent", **self.call).latents
        return latents


@pytest.fixture(scope="module", params=["flux", "sd3"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    root, call = tmp_path_factory.mktemp("steered"), {**CALL, "control": picture()}
    if request.param == "flux":
        net = flux_controlnet(root / "net", "union", num_layers=2)
        return Made(flux(root / "base", "dev", num_layers=3), net, {**call, "control_mode": 2})
    return Made(sd3(root / "base", "3.5 large"), sd3_controlnet(root / "net", "3.5 large"), call)


@pytest.fixture(scope="module")
def pipe(made: Made) -> Pipeline:
    return made.loaded()


def test_the_sites_keep_their_laws(made: Made, pipe: Pipeline) -> None:
    """Rows and tokens may be selected at the trunk and at every block: each token keeps its residuals."""
    solver = pipe.solver(None, CALL["steps"], **SIZE)
    denoiser = pipe.denoiser(solver, made.request, Control.of(made.request, pipe.family, 1))
    check_seams(denoiser, solver, torch.randn(2, 16, 12, 8))


def test_two_processes_compute_what_one_computes(made: Made, pipe: Pipeline) -> None:
    network, control = pipe.backbone, Control.of(made.request, pipe.family, 1)
    assert control is not None
    prompted = control.beside(pipe.family.condition(made.request), pipe.family, torch.empty(0))
    with torch.no_grad():
        given = network.prepare(**prompted.conditional)
        time, x = network.prepare_times(torch.tensor([[500.0]]), given)[0], torch.randn(2, 16, 12, 8)
        plain = network.evaluate(x, time, given, control_scales=[0.7])

    def everywhere(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        return fn(hidden, *args)

    for inner in (call_through, everywhere):
        divided = in_two_processes(lambda seam: network.evaluate(x, time, given, seam, control_scales=[0.7]), inner)
        assert relative(divided, plain) < 1e-5


def test_weights_may_be_streamed_or_quantized(made: Made, pipe: Pipeline) -> None:
    plain = made.latents(pipe)
    assert torch.equal(made.latents(made.loaded(offload="stream")), plain)
    quantized = made.loaded(quantize="int8")
    assert 1e-5 < relative(made.latents(quantized), plain) < 1e-2
    blocks = quantized.backbone.nets[0].transformer_blocks
    layers = [layer for layer in blocks.modules() if isinstance(layer, nn.Linear)]
    assert layers and all(type(layer.weight.data) is not Tensor for layer in layers)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_compiled_code_computes_the_same(made: Made, pipe: Pipeline, whole: bool) -> None:
    compiled = made.loaded().compile(whole=whole, backend="eager")
    assert relative(made.latents(compiled), made.latents(pipe)) < 1e-5


def test_loras_change_the_transformer_alone(made: Made, pipe: Pipeline) -> None:
    assert pipe.family.adaptable["transformer"] is pipe.backbone.network
    assert pipe.family.networks["transformer"] is pipe.backbone
