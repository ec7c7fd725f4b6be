"""Adapters of kohya's tools and LyCORIS: merged weights against the published formulas, computed in another way."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import conv2d

from sadaflow import Pipeline
from support.checkpoints_original import original
from support.lora import CONV, OUT, QUERY, compare, merged

NORM = "down_blocks.0.attentions.0.transformer_blocks.0.norm2"
ALPHA, SCALE = 3.0, 0.7


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.from_pretrained(original(tmp_path_factory.mktemp("sd15"), "sd15")[0])


def key(layer: str, prefix: str = "lora_unet_") -> str:
    return prefix + layer.replace(".", "_")


def weight(pipe: Pipeline, layer: str, leaf: str = "weight") -> Tensor:
    return pipe.backbone.get_parameter(f"{layer}.{leaf}").detach().clone(memory_format=torch.contiguous_format).double()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + math.prod(shape)))


def check(pipe: Pipeline, path: Path, tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """What `tensors` change, at SCALE, are the expected parameters of the U-Net."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "lora.safetensors")
    found = merged(pipe, path / "lora.safetensors", SCALE)
    compare({name: tensor.double() for name, tensor in found.items()}, {f"unet.{n}": x for n, x in expected.items()})


def test_locon_with_a_middle_factor_is_three_convolutions(pipe: Pipeline, tmp_path: Path) -> None:
    before = weight(pipe, CONV)
    down, mid, up = random(2, before.shape[1], 1, 1), random(2, 2, 3, 3), random(len(before), 2, 1, 1)
    names = zip(("lora_down.weight", "lora_mid.weight", "lora_up.weight"), (down, mid, up), strict=True)
    tensors = {f"{key(CONV)}.{name}": tensor for name, tensor in names}
    # The kernel is the response to one pixel of one channel, mirrored.
    pixels = torch.eye(before.shape[1]).double()[:, :, None, None]
    response = conv2d(conv2d(conv2d(pixels, down.double()), mid.double(), padding=2), up.double())
    kernel = response.flip(-1, -2).transpose(0, 1)
    expected = before + SCALE * ALPHA / 2 * kernel
    check(pipe, tmp_path, {**tensors, f"{key(CONV)}.alpha": torch.tensor(ALPHA)}, {f"{CONV}.weight": expected})


def test_loha(pipe: Pipeline, tmp_path: Path) -> None:
    tensors, expected = {}, {}
    for layer in (QUERY, CONV):
        before = weight(pipe, layer)
        columns = before[0].numel()
        factors = [random(*shape, seed=i) for i, shape in enumerate([(len(before), 2), (2, columns)] * 2)]
        tensors |= dict(zip((f"{key(layer)}.hada_{n}" for n in ("w1_a", "w1_b", "w2_a", "w2_b")), factors, strict=True))
        tensors[f"{key(layer)}.alpha"] = torch.tensor(ALPHA)
        left, right = (np.matmul(*(factor.double().numpy() for factor in pair)) for pair in (factors[:2], factors[2:]))
        product = torch.from_numpy(left * right).reshape(before.shape)
        expected[f"{layer}.weight"] = before + SCALE * ALPHA / 2 * product
    check(pipe, tmp_path, tensors, expected)


@pytest.mark.parametrize("decomposed", ["w2", "both", "none"])
def test_lokr(decomposed: str, pipe: Pipeline, tmp_path: Path) -> None:
    """alpha counts if a factor is decomposed, and not if both are full (Diffusers' converters do the same)."""
    before = weight(pipe, QUERY)
    rows, columns = len(before) // 4, before.shape[1] // 4
    left, right = random(4, 4), random(rows, columns)
    tensors = {"lokr_w1": left, "lokr_w2": right, "alpha": torch.tensor(ALPHA)}
    if decomposed != "none":
        pair = random(rows, 2), random(2, columns)
        right = pair[0].double() @ pair[1].double()
        del tensors["lokr_w2"]
        tensors |= {"lokr_w2_a": pair[0], "lokr_w2_b": pair[1]}
    if decomposed == "both":
        pair = random(4, 2), random(2, 4)
        left = pair[0].double() @ pair[1].double()
        del tensors["lokr_w1"]
        tensors |= {"lokr_w1_a": pair[0], "lokr_w1_b": pair[1]}
    product = torch.from_numpy(np.kron(left.double().numpy(), right.double().numpy()))
    factor = 1.0 if decomposed == "none" else ALPHA / 2
    named = {f"{key(QUERY, 'lycoris_')}.{name}": tensor for name, tensor in tensors.items()}
    check(pipe, tmp_path, named, {f"{QUERY}.weight": before + SCALE * factor * product})


def test_lokr_of_a_convolution_with_a_middle_factor(pipe: Pipeline, tmp_path: Path) -> None:
    before = weight(pipe, CONV)
    rows, columns = len(before) // 2, before.shape[1] // 2
    left, a, b, middle = random(2, 2), random(2, rows), random(2, columns), random(2, 2, 3, 3)
    right = torch.zeros(rows, columns, 3, 3, dtype=torch.float64)
    for i in range(2):
        for j in range(2):
            right += torch.einsum("o,n,kl->onkl", a[i].double(), b[j].double(), middle[i, j].double())
    product = torch.zeros_like(before)
    for i in range(2):
        for j in range(2):
            product[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns] = left[i, j] * right
    tensors = {"lokr_w1": left, "lokr_w2_a": a, "lokr_w2_b": b, "lokr_t2": middle}
    expected = {f"{CONV}.weight": before + SCALE * product}
    check(pipe, tmp_path, {f"{key(CONV)}.{n}": x for n, x in tensors.items()}, expected)


@pytest.mark.parametrize("by_input", [False, True])
def test_dora_scale(by_input: bool, pipe: Pipeline, tmp_path: Path) -> None:
    """At scale 1 LyCORIS, Diffusers and PEFT agree; at others the product is scaled, as in Diffusers and PEFT."""
    before = weight(pipe, CONV)
    up, down = random(len(before), 2, 1, 1), random(2, *before.shape[1:])
    size = (1, before.shape[1], 1, 1) if by_input else (len(before), 1, 1, 1)
    magnitude = random(*size).abs()
    product = SCALE * ALPHA / 2 * torch.einsum("or,rikl->oikl", up[..., 0, 0].double(), down.double())
    expected = before + product
    for index in range(magnitude.numel()):
        place = (slice(None), index) if by_input else index
        expected[place] *= magnitude.flatten()[index] / (before + product)[place].square().sum().sqrt()
    names = {"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(ALPHA), "dora_scale": magnitude}
    check(pipe, tmp_path, {f"{key(CONV)}.{n}": x for n, x in names.items()}, {f"{CONV}.weight": expected})


@pytest.mark.parametrize(("prefix", "constraint"), [("lora_unet_", 0.0), ("lora_unet_", 1e-3), ("oft_unet_", 1e-3)])
def test_oft_rotates_blocks_of_outputs(prefix: str, constraint: float, pipe: Pipeline, tmp_path: Path) -> None:
    before = weight(pipe, CONV)
    blocks, rescale = random(len(before) // 8, 8, 8), random(len(before), 1, 1, 1).abs()
    skew = blocks.double() - blocks.double().mT
    if constraint:
        skew *= min(1.0, constraint * len(before) / float(skew.norm()))
    one = torch.eye(8, dtype=torch.float64)
    rotation = torch.block_diag(*((one + part) @ torch.linalg.inv(one - part) for part in skew))
    rotation = SCALE * rotation + (1 - SCALE) * torch.eye(len(before))
    expected = (rotation.T @ before.flatten(1)).reshape(before.shape) * rescale
    tensors = {"oft_blocks": blocks, "rescale": rescale, "alpha": torch.tensor(constraint)}
    check(pipe, tmp_path, {f"{key(CONV, prefix)}.{n}": x for n, x in tensors.items()}, {f"{CONV}.weight": expected})


@pytest.mark.parametrize("on_input", [0, 1])
def test_ia3(on_input: int, pipe: Pipeline, tmp_path: Path) -> None:
    before = weight(pipe, OUT)
    factor = random(before.shape[on_input])
    scaled = before * (1 + SCALE * factor.double())[None] if on_input else before * (1 + SCALE * factor)[:, None]
    tensors = {"weight": factor, "on_input": torch.tensor(on_input)}
    check(pipe, tmp_path, {f"{key(OUT)}.{n}": x for n, x in tensors.items()}, {f"{OUT}.weight": scaled})


def test_glora(pipe: Pipeline, tmp_path: Path) -> None:
    before = weight(pipe, QUERY)
    (rows, columns), names = before.shape, ("a1", "a2", "b1", "b2")
    factors = [random(*shape) for shape in ((columns, 2), (2, columns), (rows, 2), (2, columns))]
    a1, a2, b1, b2 = (factor.double() for factor in factors)
    tensors = {f"{key(QUERY)}.{name}.weight": factor for name, factor in zip(names, factors, strict=True)}
    expected = before + SCALE * ALPHA / 2 * (before @ a1 @ a2 + b1 @ b2)
    check(pipe, tmp_path, {**tensors, f"{key(QUERY)}.alpha": torch.tensor(ALPHA)}, {f"{QUERY}.weight": expected})


def test_differences_of_weights_biases_and_norms(pipe: Pipeline, tmp_path: Path) -> None:
    tensors, expected = {}, {}
    for layer, leaves in ((CONV, ("diff", "diff_b")), (NORM, ("w_norm", "b_norm")), (QUERY, ("diff",))):
        for part, leaf in zip(leaves, ("weight", "bias"), strict=False):
            before = weight(pipe, layer, leaf)
            tensors[f"{key(layer)}.{part}"] = random(*before.shape)
            expected[f"{layer}.{leaf}"] = before + SCALE * tensors[f"{key(layer)}.{part}"]
    check(pipe, tmp_path, tensors, expected)
    save_file({f"{key(QUERY)}.diff_b": random(len(weight(pipe, QUERY)))}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=r"lora.safetensors.*to_q has no bias"):
        pipe.load_lora(tmp_path / "lora.safetensors")
