"""Offloaded weights: bit-equal results to a pipeline with all weights in memory."""

from collections.abc import Callable
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import sadaflow.placement.offload
from sadaflow import Pipeline
from sadaflow.placement.offload import ModelOffload
from sadaflow.placement.streaming import Stream, host_weights
from support.checkpoints import controlnet, musicldm, stable_diffusion, stable_diffusion_xl
from support.checkpoints_flux import flux

CPU = torch.device("cpu")
SMALL = {"height": 32, "width": 48}
Made = Callable[[Path], tuple[Path, dict[str, Any], dict[str, Any]]]


def _sd(folder: Path) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    base = stable_diffusion(folder / "sd", "sd21")
    net = controlnet(folder / "net", base)
    return base, {"controlnet": net}, {"control": torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))}


KINDS: dict[str, Made] = {
    "sd+controlnet": _sd,
    "xl": lambda folder: (stable_diffusion_xl(folder / "xl", force_zeros=False), {}, {}),
    "flux": lambda folder: (flux(folder / "flux", "dev"), {}, SMALL),
    "flux-half": lambda folder: (flux(folder / "flux", "dev"), {"dtype": torch.float16}, SMALL),
    "musicldm": lambda folder: (musicldm(folder / "music"), {}, {"output": "audio"}),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return KINDS[request.param](tmp_path_factory.mktemp("offload"))


@pytest.fixture
def all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks here are small: no layer of them would be streamed."""
    monkeypatch.setattr(sadaflow.placement.offload, "Stream", partial(Stream, small=0, ahead=20_000))


def run(pipe: Pipeline, **arguments: Any) -> list[torch.Tensor]:
    made = pipe(["a red apple", "grinning face"], steps=2, seed=[1, 2], **({"output": "tensor"} | arguments))
    return [made.latents, made.images if made.audio is None else made.audio]


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_streamed_from_files(kind: Any, all_layers: None) -> None:
    folder, how, call = kind
    pipe = Pipeline.from_pretrained(folder, offload="stream", **how)
    resident = Pipeline.from_pretrained(folder, **how)
    for network in resident.family.networks.values():
        for weight in network.parameters():
            weight.data = weight.data.clone()  # transformers leaves some mapped, where products round differently
    assert_same(run(pipe, **call), run(resident, **call))
    streamed = [name for name in pipe.family.networks if name not in ("text_model", "text_projection", "vocoder")]
    for name in streamed:
        assert {weight.device.type for weight in pipe.family.networks[name].parameters()} == {"meta"}
    refusal = pytest.raises(ValueError, match="a LoRA cannot change: load the pipeline without offload=")
    with refusal, pipe._residence.changing():
        pass


def test_streamed_from_memory(kind: Any) -> None:
    folder, how, call = kind
    pipe = Pipeline.from_pretrained(folder, **how)
    expected, stream = run(pipe, **call), Stream(CPU, small=1000, ahead=20_000)
    for network in pipe.family.networks.values():
        stream.add(network, host_weights(network, pin=False))
    assert_same(run(pipe, **call), expected)
    assert {weight.device.type for weight in pipe.family.backbone.parameters()} == {"meta", "cpu"}


def test_one_network_at_a_time(kind: Any) -> None:
    folder, how, call = kind
    pipe = Pipeline.from_pretrained(folder, **how)
    expected, networks = run(pipe, **call), pipe.family.networks
    homes = {name: set(network.parameters()) for name, network in networks.items()}
    ModelOffload(CPU).take(networks)
    turns = []

    def note(name: str, module: nn.Module, inputs: Any) -> None:
        away = [other for other, network in networks.items() if set(network.parameters()) != homes[other]]
        assert away == [name]
        if turns[-1:] != [name]:
            turns.append(name)

    for name, network in networks.items():
        for module in network.modules():
            if next(module.parameters(recurse=False), None) is not None:
                module.register_forward_pre_hook(partial(note, name))
    assert_same(run(pipe, **call), expected)
    backbone = "transformer" if "transformer" in networks else "unet"
    assert turns.count(backbone) == turns.count("vae") == 1 and turns[turns.index(backbone) + 1] == "vae"


@pytest.mark.parametrize("where", ["stream", "model"])
def test_weights_changed_meanwhile(where: str, tmp_path: Path) -> None:
    folder = stable_diffusion(tmp_path / "sd", "sd15")
    plain, pipe = (Pipeline.from_pretrained(folder) for _ in range(2))
    weights = dict(pipe.backbone.named_parameters())  # as a LoRA finds them before
    if where == "model":
        offload = ModelOffload(CPU)
        offload.take(pipe.family.networks)
        renew = offload.changing
    else:
        stream = Stream(CPU, small=5000)
        stream.add(pipe.backbone, host_weights(pipe.backbone, pin=False))
    before = run(pipe)
    with renew() if where == "model" else torch.no_grad():
        for other in (weights, dict(plain.backbone.named_parameters())):
            for name in ("conv_in.weight", "mid_block.attentions.0.proj_in.weight", "mid_block.resnets.0.conv1.weight"):
                other[name].data = other[name].data * 1.5
    if where == "stream":
        stream.renew()
    assert_same(run(pipe), run(plain))
    assert not torch.equal(run(plain)[0], before[0])


def test_another_way_through_the_network() -> None:
    """Layers are fetched ahead in the order of the last time; that order changes, stops short and raises."""
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(50, 50) for _ in range(6)]).requires_grad_(False)
    reads: list[str] = []
    expected = [layer.weight.detach().clone() for layer in layers]
    read = host_weights(layers, pin=False)
    stream = Stream(CPU, small=0, ahead=25_000)
    stream.add(layers, lambda name: (reads.append(name), read(name))[1])
    x = torch.randn(1, 50)
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 1, 0], [2], [0, 1, 2, 3, 4, 5]):
        for index in order:
            torch.testing.assert_close(layers[index](x) - layers[index](0 * x), x @ expected[index].T)
    with pytest.raises(RuntimeError, match="shapes"):
        layers[3](torch.randn(1, 49))
    assert all(parameter.is_meta for parameter in layers.parameters())
    assert len(stream._fetching) <= 2  # of 10,200 bytes each
    for _ in range(4):
        wait(stream._fetching.values())  # for what the thread has yet to read for the next pass
        reads.clear()
        for layer in layers:
            layer(x)
    wait(stream._fetching.values())
    assert sorted(reads) == sorted("012345")  # none is fetched in vain once the order is known


def test_a_damaged_file_is_named_when_its_layer_runs(tmp_path: Path, all_layers: None) -> None:
    folder = stable_diffusion(tmp_path / "sd", "sd15")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    state["mid_block.resnets.1.conv2.weight"][0, 0, 0, 0] = torch.nan
    save_file(state, file)
    pipe = Pipeline.from_pretrained(folder, offload="stream")
    with pytest.raises(ValueError, match=r"model.safetensors: mid_block.resnets.1.conv2.weight .*NaN"):
        run(pipe)
    state.pop("conv_in.weight")
    save_file(state, file)
    with pytest.raises(ValueError, match="missing .conv_in.weight"):
        Pipeline.from_pretrained(folder, offload="stream")


def test_text_encoders_must_fit_as_strictly(tmp_path: Path) -> None:
    folder = flux(tmp_path / "flux", "dev")
    for component, change in (("text_encoder", "missing"), ("text_encoder_2", "unexpected")):
        file = folder / component / "model.safetensors"
        state = load_file(file)
        changed = dict(state)
        if change == "missing":
            del changed[next(name for name in state if name.endswith("final_layer_norm.weight"))]
        else:
            changed["stranger.weight"] = torch.zeros(2)
        save_file(changed, file, {"format": "pt"})
        with pytest.raises(ValueError, match=f"{component}: .*1 {change}"):
            Pipeline.from_pretrained(folder, offload="stream")
        save_file(state, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"offload": "disk"}, "unknown offload 'disk'; known: model, stream"),
        ({"offload": "model"}, "the device is the CPU: use offload=.stream."),
        ({"quantize": "int3"}, "unknown quantization 'int3'; known: int8, fp8"),
        ({"offload": "stream", "quantize": "int8"}, "needs all weights in memory"),
        ({"tile": 100}, "tile=100 is not supported; use multiples of 16 pixels"),
    ],
)
def test_what_cannot_be(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Pipeline.from_pretrained(**arguments)
