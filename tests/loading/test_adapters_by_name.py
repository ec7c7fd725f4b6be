"""Adapters by name: which are merged and at which scales, as PEFT weights them; unloading by name."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sadaflow import Pipeline
from support.checkpoints_flux import flux
from support.checkpoints_original import original
from support.lora import QUERY, factors, snapshot

WEIGHT = f"unet.{QUERY}.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return original(tmp_path_factory.mktemp("sd15"), "sd15")[0]


@pytest.fixture
def pipe(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder)


def save(folder: Path, weight: Tensor, *names: str) -> dict[str, Tensor]:
    """Write an adapter under each name, and return what each adds to the query."""
    products = {}
    for seed, name in enumerate(names):
        up, down = factors(weight.shape, seed)
        tensors = {f"unet.{QUERY}.lora_A.weight": down, f"unet.{QUERY}.lora_B.weight": up}
        save_file(tensors, folder / f"{name}.safetensors")
        products[name] = up @ down
    return products


def test_adapters_are_chosen_and_weighted_by_name(pipe: Pipeline, tmp_path: Path) -> None:
    before = snapshot(pipe)
    weight = before[WEIGHT]
    products = save(tmp_path, weight, "toy", "ink")
    for name in products:
        pipe.load_lora(tmp_path / f"{name}.safetensors", 0.5, name=name)
    assert pipe.adapters == {"toy": 0.5, "ink": 0.5}
    for names, weights, scales in (
        (["toy", "ink"], [0.2, -1.0], {"toy": 0.2, "ink": -1.0}),
        ("ink", 0.7, {"toy": 0.0, "ink": 0.7}),
        (["ink", "toy"], 0.3, {"toy": 0.3, "ink": 0.3}),
        (["toy"], None, {"toy": 1.0, "ink": 0.0}),
    ):
        pipe.set_adapters(names, weights)
        assert pipe.adapters == scales
        assert pipe.adapted
        expected = weight + sum(scale * products[name] for name, scale in scales.items())
        torch.testing.assert_close(snapshot(pipe)[WEIGHT], expected, rtol=1e-5, atol=1e-5)
    pipe.set_adapters([])
    assert not pipe.adapted
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(pipe).items())
    pipe.set_adapters(["toy", "ink"])
    pipe.unload_lora("toy")
    torch.testing.assert_close(snapshot(pipe)[WEIGHT], weight + products["ink"], rtol=1e-5, atol=1e-5)
    pipe.unload_lora("ink")
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(pipe).items())


def test_names_that_do_not_fit_are_refused(pipe: Pipeline, tmp_path: Path) -> None:
    save(tmp_path, snapshot(pipe)[WEIGHT], "toy", "ink")
    toy = tmp_path / "toy.safetensors"
    first = pipe.load_lora(toy)
    pipe.load_lora(toy)
    before = snapshot(pipe)
    with pytest.raises(ValueError, match="2 adapters have the name 'toy.safetensors'"):
        pipe.unload_lora("toy.safetensors")
    pipe.unload_lora(first)
    with pytest.raises(ValueError, match="name='toy.safetensors' is empty or the name of a loaded adapter"):
        pipe.load_lora(toy, name="toy.safetensors")
    with pytest.raises(ValueError, match="'ink' is not loaded.*loaded adapters: toy.safetensors"):
        pipe.set_adapters(["ink"])
    with pytest.raises(ValueError, match="1 names and 2 weights"):
        pipe.set_adapters("toy.safetensors", [1.0, 2.0])
    with pytest.raises(ValueError, match="each adapter and its weight once"):
        pipe.set_adapters(["toy.safetensors"] * 2)
    with pytest.raises(ValueError, match="finite"):
        pipe.set_adapters("toy.safetensors", float("inf"))
    pipe.load_lora(toy, 1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(pipe).items())


def test_errors_name_the_file_whatever_the_adapter_is_called(pipe: Pipeline, tmp_path: Path) -> None:
    up, down = factors(snapshot(pipe)[WEIGHT].shape, 1)
    for wrong, match in ((up[:-1], "the change has the shape"), (up[:, :-1], "do not fit each other")):
        tensors = {f"unet.{QUERY}.lora_A.weight": down, f"unet.{QUERY}.lora_B.weight": wrong.contiguous()}
        save_file(tensors, tmp_path / "toy.safetensors")
        with pytest.raises(ValueError, match=rf"toy\.safetensors.*to_q.*{match}"):
            pipe.load_lora(tmp_path / "toy.safetensors", name="other")
    assert pipe.adapters == {}


def test_a_merge_that_overflows_leaves_the_weights_as_they_were(folder: Path, tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(folder, dtype=torch.float16)
    before = snapshot(pipe)
    save(tmp_path, before[WEIGHT], "toy")
    with pytest.raises(ValueError, match=rf"{WEIGHT} does not fit torch.float16"):
        pipe.load_lora(tmp_path / "toy.safetensors", 1e6)
    assert pipe.adapters == {}
    pipe.load_lora(tmp_path / "toy.safetensors", name="toy")
    merged = snapshot(pipe)
    with pytest.raises(ValueError, match="does not fit torch.float16"):
        pipe.set_adapters("toy", 1e6)
    assert pipe.adapters == {"toy": 1.0}
    assert all(torch.equal(tensor, merged[name]) for name, tensor in snapshot(pipe).items())
    pipe.unload_lora("toy")
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(pipe).items())


def test_fused_and_single_layers_of_several_adapters_go_in_any_order(tmp_path: Path) -> None:
    """A DoRA of a fused layer and a LoRA of one of its parts: the two do not add up, and are applied in their order."""
    dev = flux(tmp_path / "dev", "dev", num_layers=1, num_single_layers=1)
    pipe = Pipeline.from_pretrained(dev)
    before, layer = snapshot(pipe), "transformer.transformer_blocks.0.attn"
    width = before[f"{layer}.to_q.weight"].shape[0]
    up, down = factors(torch.Size([3 * width, width]), 1)
    magnitude = torch.linspace(0.5, 2, 3 * width)[:, None]
    fused = {"lora_down.weight": down, "lora_up.weight": up, "dora_scale": magnitude}
    key = "lora_unet_double_blocks_0_img_attn_qkv"
    save_file({f"{key}.{name}": tensor for name, tensor in fused.items()}, tmp_path / "fused.safetensors")
    one_up, one_down = factors(torch.Size([width, width]), 2)
    single = {f"{layer}.to_k.lora_A.weight": one_down, f"{layer}.to_k.lora_B.weight": one_up}
    save_file(single, tmp_path / "single.safetensors")
    whole = torch.cat([before[f"{layer}.to_{name}.weight"] for name in "qkv"])
    factor = magnitude / torch.linalg.vector_norm(whole + up @ down, dim=1, keepdim=True)
    added = torch.zeros_like(whole)
    added[width : 2 * width] = one_up @ one_down

    def check(expected: Tensor) -> None:
        found = torch.cat([snapshot(pipe)[f"{layer}.to_{name}.weight"] for name in "qkv"])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    pipe.load_lora(tmp_path / "single.safetensors", name="single")
    pipe.load_lora(tmp_path / "fused.safetensors", name="fused")
    check(factor * (whole + added + up @ down))
    pipe.unload_lora("single")
    check(factor * (whole + up @ down))
    pipe.load_lora(tmp_path / "single.safetensors", name="single")
    check(factor * (whole + up @ down) + added)
    twin = copy.deepcopy(pipe)
    pipe.unload_lora("fused")
    check(whole + added)
    pipe.unload_lora("single")
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(pipe).items())
    for name in ("fused", "single"):
        twin.unload_lora(name)
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot(twin).items())
