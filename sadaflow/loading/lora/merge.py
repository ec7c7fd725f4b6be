"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685), merged into a pipeline's weights: W + scale alpha/rank B A.

The tensors that were there before the first adapter are kept and put back when the last one goes, so unloading is exact
and in any order. It costs the memory of the layers touched once more, and of the factors.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..hub.locate import ADAPTER_CONFIG, ADAPTER_FILE
from ..safetensors_file import is_finite, open_safetensors
from .names import Place, parse, places

_OTHER_KINDS = {
    r"\.dora_scale$|lora_magnitude_vector": "DoRA",
    r"\.lokr_": "LoKr",
    r"\.hada_": "LoHa",
    r"\.lora_mid\.": "LoCon with a middle factor",
    r"\.oft_": "OFT",
    r"\.diff(_b)?$": "full differences",
    r"\.lora_(B|up)(\.default)?\.bias$": "LoRA with a bias",
}


@dataclass(frozen=True, eq=False)
class Factors:
    """One layer's product: up (out, rank) times down (rank, in), both flattened, by `weight` = alpha/rank."""

    layer: str
    up: Tensor
    down: Tensor
    weight: float
    place: Place


@dataclass(frozen=True, eq=False)
class Lora:
    """A loaded adapter; what `unload_lora` takes."""

    name: str
    scale: float
    factors: tuple[Factors, ...]


class LoraStack:
    """The adapters merged into `components`, in the order in which they came."""

    def __init__(self, components: Mapping[str, nn.Module]) -> None:
        self._weights = {
            (component, name): weight
            for component, module in components.items()
            for name, weight in module.named_parameters()
        }
        self._originals: dict[tuple[str, str], Tensor] = {}
        self._active: list[Lora] = []
        self.places = places(components)

    def add(self, lora: Lora) -> None:
        """Merge `lora`; ValueError, before anything is changed, for factors that do not fit their layer."""
        for factors in lora.factors:
            self._check(factors, lora.name)
        self._active.append(lora)
        self._refresh(lora)

    def remove(self, lora: Lora) -> None:
        """Take `lora` out again; ValueError if it is not in."""
        if lora not in self._active:
            raise ValueError(f"the LoRA {lora.name!r} is not loaded in this pipeline, or was unloaded before")
        self._active.remove(lora)
        self._refresh(lora)

    def _check(self, factors: Factors, name: str) -> None:
        shapes = [tuple(self._weights[factors.place.component, weight].shape) for weight in factors.place.weights]
        rows, columns = sum(shape[0] for shape in shapes), math.prod(shapes[0][1:])
        if (factors.up.shape[0], factors.down.shape[1]) != (rows, columns) or factors.up.shape[1] != len(factors.down):
            raise ValueError(
                f"{name}: {factors.layer} is {tuple(factors.up.shape)} times {tuple(factors.down.shape)}, but the "
                f"layer is ({rows}, {columns}): this LoRA was made for another model"
            )

    @torch.no_grad()
    def _refresh(self, lora: Lora) -> None:
        """Bring the layers that `lora` touches up to what is active."""
        for key in dict.fromkeys((f.place.component, weight) for f in lora.factors for weight in f.place.weights):
            weight = self._weights[key]
            original = self._originals.setdefault(key, weight.data)
            merged, touched = original.to(torch.promote_types(original.dtype, torch.float32)), False
            for active in self._active:
                for factors in active.factors:
                    if factors.place.component == key[0] and key[1] in factors.place.weights:
                        merged, touched = merged + active.scale * _delta(factors, key[1], merged), True
            if touched:
                weight.data = torch.empty_like(original).copy_(merged)
            else:
                weight.data = self._originals.pop(key)


def _delta(factors: Factors, weight: str, like: Tensor) -> Tensor:
    product = factors.up.to(like) @ factors.down.to(like)
    return factors.weight * factors.place.split(product)[weight].reshape(like.shape)


def read_lora(path: Path, places: Mapping[str, Place], scale: float) -> Lora:
    """The adapter in a safetensors file, in any dialect of `lora_names`.

    Raises ValueError, with a count and three examples, for keys that belong to no layer, and for kinds of adapter
    other than LoRA.
    """
    if not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, got {scale}")
    layers: dict[str, dict[str, Tensor]] = {}
    unmatched = []
    with open_safetensors(path) as file:
        metadata: dict[str, str] = file.metadata() or {}
        for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
            kind = next((kind for mark, kind in _OTHER_KINDS.items() if re.search(mark, key)), None)
            if kind is not None:
                raise ValueError(f"{path}: {key!r} is of {kind}, which is not supported; supported: LoRA")
            parsed = parse(key)
            if parsed is None or parsed[0] not in places:
                unmatched.append(key)
            else:
                tensor = file.get_tensor(key)
                if not tensor.is_floating_point() and parsed[1] != "alpha" or not is_finite(tensor.float()):
                    raise ValueError(f"{path}: {key!r} holds numbers that are no floats, or NaN or infinity")
                layers.setdefault(parsed[0], {})[parsed[1]] = tensor.clone()  # no longer mapped from the file
    if unmatched or not layers:
        examples = f" ({', '.join(map(repr, unmatched[:3]))})" if unmatched else ""
        count = len(unmatched) + sum(map(len, layers.values()))
        raise ValueError(
            f"{path}: {len(unmatched)} of {count} keys belong to no layer of this pipeline{examples}; was the LoRA "
            "made for another model?"
        )
    alphas = _noted_alphas(path, metadata)
    factors = (_factors(path, layer, parts, places[layer], alphas) for layer, parts in layers.items())
    return Lora(path.name, float(scale), tuple(factors))


def _factors(path: Path, layer: str, parts: dict[str, Tensor], place: Place, alphas: Mapping[str, Any]) -> Factors:
    if "up" not in parts or "down" not in parts:
        raise ValueError(f"{path}: {layer} has {' and '.join(sorted(parts))} alone; a LoRA has both factors of a layer")
    up, down = parts["up"].flatten(1), parts["down"].flatten(1)
    rank = down.shape[0]
    noted = alphas.get(place.component, alphas.get("", {}))
    if "alpha" in parts:
        alpha = float(parts["alpha"].float().reshape(()))
    else:
        alpha = float(noted.get("lora_alpha") or rank)
    weight = alpha / math.sqrt(rank) if noted.get("use_rslora") else alpha / rank
    return Factors(layer, up, down, weight, place)


def _noted_alphas(path: Path, metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """PEFT's settings by component: in the file's metadata (Diffusers) or in an adapter_config.json beside it ("")."""
    noted: dict[str, dict[str, Any]] = {}
    beside = path.parent / ADAPTER_CONFIG
    if "lora_adapter_metadata" in metadata:
        for name, value in json.loads(metadata["lora_adapter_metadata"]).items():
            component, _, field = name.partition(".")
            noted.setdefault(component, {})[field] = value
    elif path.name == ADAPTER_FILE and beside.is_file():
        noted[""] = json.loads(beside.read_text("utf-8"))
    for settings in noted.values():
        for field in ("alpha_pattern", "use_dora"):
            if settings.get(field):
                raise ValueError(f"{path}: {field}={settings[field]!r} in its settings is not supported")
    return noted
