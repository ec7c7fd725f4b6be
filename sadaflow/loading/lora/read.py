"""Reads low-rank adapters (Hu et al. 2021, arXiv 2106.09685) from safetensors files."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..hub.locate import ADAPTER_CONFIG, ADAPTER_FILE
from ..json_file import read_object
from ..safetensors_file import Stored, copied, open_safetensors, read_headers, read_tensors
from .names import Target, parse

_OTHER_ADAPTERS = {
    r"\.dora_scale$|lora_magnitude_vector": "DoRA",
    r"\.lokr_": "LoKr",
    r"\.hada_": "LoHa",
    r"\.lora_mid\.": "LoCon with a middle factor",
    r"\.oft_": "OFT",
    r"\.diff(_b)?$": "full differences",
    r"\.lora_(B|up)(\.default)?\.bias$": "LoRA with a bias",
}
# Stored formats that torch computes in; factors in 8-bit formats are widened to float32.
_COMPUTED = ("F64", "F32", "F16", "BF16")

Keys = Mapping[tuple[str, str], Stored]
"""From a layer, as the file spells it, and "up", "down" or "alpha" to the stored tensor."""


@dataclass(frozen=True, eq=False)
class Factors:
    """The low-rank product that is added to one layer: weight * up @ down.

    Attributes:
        layer: Name of the layer in the file, for errors.
        up: Shape (outputs, rank).
        down: Shape (rank, inputs); the kernel positions of a convolution count as inputs.
        weight: alpha / rank, or alpha / sqrt(rank) for rsLoRA (Kalajdzievski 2023, arXiv 2312.03732).
        target: The weights that the product is added to.
    """

    layer: str
    up: Tensor
    down: Tensor
    weight: float
    target: Target


@dataclass(frozen=True, eq=False)
class Lora:
    """A loaded adapter, as `Pipeline.load_lora` returns it.

    Attributes:
        name: Name of its file.
        scale: Factor of all its products.
        factors: One product for each layer.
    """

    name: str
    scale: float
    factors: tuple[Factors, ...]


def read_lora(path: Path, targets: Mapping[str, Target], scale: float) -> Lora:
    """Read an adapter from a safetensors file, in any of the dialects of `names`.

    Args:
        path: The file.
        targets: All layers of the pipeline, by each of their spellings.
        scale: Factor of all products.

    Raises:
        ValueError: If the file holds another type of adapter, keys that do not belong to a layer, a layer without one
            of its factors, or numbers that are not finite; each is named.
    """
    if not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, got {scale}")
    keys = _match(path, targets)
    settings = _settings(path)
    layers: dict[str, dict[str, Tensor]] = {}
    names = {stored: key for key, stored in keys.items()}
    for stored, tensor in read_tensors(sorted(names, key=lambda stored: stored.index)):
        layer, part = names[stored]
        dtype = tensor.dtype if stored.format in _COMPUTED or not stored.is_float else torch.float32
        layers.setdefault(layer, {})[part] = copied(stored, tensor, dtype, torch.device("cpu"))
    factors = (_factors(path, layer, parts, targets[layer], settings) for layer, parts in layers.items())
    return Lora(path.name, float(scale), tuple(factors))


def _match(path: Path, targets: Mapping[str, Target]) -> Keys:
    """Match the keys of a file with the layers of the pipeline; no tensor is read."""
    found: dict[tuple[str, str], Stored] = {}
    unmatched = []
    for stored in read_headers([path]):
        other = next((label for mark, label in _OTHER_ADAPTERS.items() if re.search(mark, stored.name)), None)
        if other is not None:
            raise ValueError(f"{path}: {stored.name!r} belongs to {other}, which is not supported; supported: LoRA")
        key = parse(stored.name)
        if key is None or key[0] not in targets:
            unmatched.append(stored.name)
            continue
        if key in found:
            raise ValueError(f"{path}: {found[key].name!r} and {stored.name!r} are the same factor of one layer")
        if key[1] != "alpha" and not stored.is_float:
            raise ValueError(f"{path}: {stored.name!r} holds {stored.format}, expected floats")
        found[key] = stored
    if unmatched or not found:
        examples = f" ({', '.join(map(repr, unmatched[:3]))})" if unmatched else ""
        raise ValueError(
            f"{path}: {len(unmatched)} of {len(unmatched) + len(found)} keys belong to no layer of this "
            f"pipeline{examples}; was the LoRA made for another model?"
        )
    return found


def _factors(
    path: Path, layer: str, parts: Mapping[str, Tensor], target: Target, settings: Mapping[str, Mapping[str, Any]]
) -> Factors:
    if "up" not in parts or "down" not in parts:
        raise ValueError(f"{path}: {layer} has {' and '.join(sorted(parts))} alone; a LoRA has both factors of a layer")
    if min(parts["up"].dim(), parts["down"].dim()) < 2 or 0 in (*parts["up"].shape, *parts["down"].shape):
        shapes = f"{tuple(parts['up'].shape)} and {tuple(parts['down'].shape)}"
        raise ValueError(f"{path}: the factors of {layer} have shapes {shapes}; matrices of rank 1 or more are needed")
    up, down = parts["up"].flatten(1), parts["down"].flatten(1)
    rank = down.shape[0]
    own = settings.get(target.component, settings.get("", {}))
    alpha = _alpha(path, layer, parts["alpha"]) if "alpha" in parts else _number(path, own) or float(rank)
    weight = alpha / math.sqrt(rank) if own.get("use_rslora") else alpha / rank
    return Factors(layer, up, down, weight, target)


def _alpha(path: Path, layer: str, tensor: Tensor) -> float:
    if tensor.numel() != 1:
        raise ValueError(f"{path}: alpha of {layer} has shape {tuple(tensor.shape)}, expected one number")
    return float(tensor.float().reshape(()))


def _number(path: Path, settings: Mapping[str, Any]) -> float | None:
    alpha = settings.get("lora_alpha")
    if alpha is not None and not (type(alpha) in (int, float) and math.isfinite(alpha)):
        raise ValueError(f"{path}: lora_alpha={alpha!r} in its settings is not a finite number")
    return alpha


def _object(path: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: lora_adapter_metadata is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: lora_adapter_metadata holds a {type(content).__name__}, expected a JSON object")
    return content


def _settings(path: Path) -> dict[str, dict[str, Any]]:
    """PEFT's settings by component.

    They are in the metadata of the file (Diffusers), or in an adapter_config.json beside it (PEFT); the latter hold for
    every component and are under "".
    """
    with open_safetensors(path) as file:
        metadata: dict[str, str] = file.metadata() or {}
    settings: dict[str, dict[str, Any]] = {}
    beside = path.parent / ADAPTER_CONFIG
    if "lora_adapter_metadata" in metadata:
        for name, value in _object(path, metadata["lora_adapter_metadata"]).items():
            component, _, field = name.partition(".")
            settings.setdefault(component, {})[field] = value
    elif path.name == ADAPTER_FILE and beside.is_file():
        settings[""] = read_object(beside)
    for own in settings.values():
        for field in ("alpha_pattern", "use_dora"):
            if own.get(field):
                raise ValueError(f"{path}: {field}={own[field]!r} in its settings is not supported")
    return settings
