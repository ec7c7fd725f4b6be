"""8-bit weights: their size, their distance to the original weights, and rejected uses."""

import sys
from pathlib import Path

import pytest
import torch

from sadaflow import Pipeline
from sadaflow.bench.run.memory import peak_memory
from sadaflow.models import ControlledUNet
from sadaflow.placement.quantization import Quantize
from support.checkpoints_flux import flux

pytest.importorskip("torchao", reason="the extra `quantize` is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flux(tmp_path_factory.mktemp("quantize") / "flux", "dev")


def latents(pipe: Pipeline) -> torch.Tensor:
    return pipe("a red apple", height=32, width=32, steps=4, output="latent", seed=1).latents


# A row's uniform weights in 255 steps are off by 0.4% (root mean square), in floats of three bits by 2 to 4%.
@pytest.mark.parametrize(("name", "kind", "within"), [("int8", torch.int8, 0.008), ("fp8", torch.float8_e4m3fn, 0.04)])
def test_blocks_hold_eight_bits_of_the_weights(folder: Path, name: str, kind: torch.dtype, within: float) -> None:
    how = {"dtype": torch.bfloat16}
    plain, pipe = Pipeline.from_pretrained(folder, **how), Pipeline.from_pretrained(folder, quantize=name, **how)
    for network, exact in ((pipe.backbone, plain.backbone), (pipe.family.t5.encoder, plain.family.t5.encoder)):
        quantized = 0
        for (place, module), other in zip(network.named_modules(), exact.modules(), strict=True):
            if not isinstance(module, torch.nn.Linear):
                continue
            inside = any(part.isdigit() for part in place.split("."))
            assert inside == (type(module.weight.data) is not torch.Tensor)
            if inside:
                quantized += 1
                assert module.weight.qdata.dtype is kind
                exactly = other.weight.double()
                assert (module.weight.dequantize().double() - exactly).norm() < within * exactly.norm()
        assert quantized > 0
    for network in (pipe.vae, pipe.family.clip.encoder):
        assert all(type(weight.data) is torch.Tensor for weight in network.parameters())
    ours, theirs = latents(pipe), latents(plain)
    assert 0 < (ours - theirs).norm() / theirs.norm() < 0.05


def test_layers_are_quantized_as_they_are_read(folder: Path) -> None:
    """As they are when all are there, but never are all there."""
    after = Pipeline.from_pretrained(folder)
    Quantize.named("int8").take(after.family.networks)
    made: list[Pipeline] = []
    peak = peak_memory(lambda: made.append(Pipeline.from_pretrained(folder, quantize="int8")), torch.device("cpu"))
    assert torch.equal(latents(made[0]), latents(after))
    networks = Pipeline.from_pretrained(folder).family.networks.values()
    assert peak < sum(weight.nbytes for network in networks for weight in network.parameters())


def test_weights_in_eight_bits_are_not_changed(folder: Path) -> None:
    pipe = Pipeline.from_pretrained(folder, quantize="int8")
    with pytest.raises(ValueError, match="merge the LoRA without quantize="), pipe._residence.changing():
        pass


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ImportError, match=r"sadaflow\[quantize\]"):
        Quantize.named("int8")


@pytest.mark.parametrize("at_once", [True, False])
def test_controlnets_are_quantized_beside_their_unet(at_once: bool) -> None:
    pipe = Pipeline.from_pretrained(controlnet="tiny-controlnet", quantize="int8" if at_once else None)
    if not at_once:
        Quantize.named("int8").take(pipe.family.networks)
    controlled = pipe.backbone
    assert isinstance(controlled, ControlledUNet)
    for network in (controlled.unet, *controlled.nets):
        linear = {name: part for name, part in network.named_modules() if isinstance(part, torch.nn.Linear)}
        quantized = {name for name, part in linear.items() if hasattr(part.weight, "qdata")}
        assert quantized == {name for name in linear if any(part.isdigit() for part in name.split("."))}
        assert quantized and quantized != set(linear)
