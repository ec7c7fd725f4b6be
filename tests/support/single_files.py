"""Variants of a single file: the same tensors under the names of other tools, with what these leave behind."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]
NETWORK, VAE = "model.diffusion_model.", "first_stage_model."


def write(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, metadata)
    return path


def variant(file: Path, path: Path, change: Callable[[Tensors], Tensors]) -> Path:
    return write(path, change(load_file(file)))


def renamed(*pairs: tuple[str, str]) -> Callable[[Tensors], Tensors]:
    """Replaces beginnings of names."""

    def change(tensors: Tensors) -> Tensors:
        made = {}
        for name, tensor in tensors.items():
            for old, new in pairs:
                if name.startswith(old):
                    name = new + name.removeprefix(old)
                    break
            made[name] = tensor
        return made

    return change


def only(*prefixes: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}


def stripped(prefix: str) -> Callable[[Tensors], Tensors]:
    """The tensors under a prefix, without it."""
    return lambda tensors: {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}


def scaled(tensors: Tensors, suffix: str = "scale_weight", *, rows: bool = False) -> Tensors:
    """Matrices of the network in fp8 with a scale, as published: the largest number becomes the format's largest."""
    made: Tensors = {f"{NETWORK}scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}
    for name, tensor in tensors.items():
        if not (name.startswith(NETWORK) and name.endswith(".weight") and tensor.dim() == 2):
            made[name] = tensor
            continue
        scale = (tensor.abs().amax(1, keepdim=True) if rows else tensor.abs().max()) / 448
        made[name] = (tensor / scale).to(torch.float8_e4m3fn)
        made[f"{name.removesuffix('weight')}{suffix}"] = scale.squeeze()
        made[f"{name.removesuffix('weight')}scale_input"] = torch.ones(())
    return made


def unscaled(tensors: Tensors, suffix: str = "scale_weight") -> Tensors:
    """What the weights of `scaled` stand for."""
    made = {}
    for name, tensor in tensors.items():
        scale = tensors.get(f"{name.removesuffix('weight')}{suffix}") if name.endswith(".weight") else None
        if scale is not None:
            tensor = tensor.float() * (scale[:, None] if scale.dim() else scale)
        if not name.endswith((suffix, "scale_input", "scaled_fp8")):
            made[name] = tensor
    return made
