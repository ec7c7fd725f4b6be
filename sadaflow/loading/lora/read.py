"""Reads adapters from safetensors files: LoRA (Hu et al. 2021, arXiv 2106.09685) and its relatives."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..copied_weights import copied
from ..embeddings import BUNDLE, Embedding, bundled
from ..safetensors_file import Stored, read_headers, read_tensors
from .build import equal, make_changes
from .changes import Change
from .complaints import complaint, require_read
from .keys import Key, ia3_layers, parse
from .parts import Parts
from .settings import Settings, read_settings
from .targets import Layer

# Stored formats that torch computes in; factors in 8-bit formats are widened to float32.
_COMPUTED = ("F64", "F32", "F16", "BF16")
_NUMBERS = ("alpha", "on_input")


@dataclass(frozen=True, eq=False)
class Lora:
    """A loaded adapter, as `Pipeline.load_lora` returns it.

    Attributes:
        name: The name that it was given, or that of its file.
        scale: Factor of all its changes when it was loaded.
        factors: One change for each layer.
        embeddings: Textual inversions that its file brings along.
        source: Its file, for errors.
    """

    name: str
    scale: float
    factors: tuple[Change, ...]
    embeddings: tuple[Embedding, ...] = ()
    source: str = ""


def read_lora(path: Path, targets: Mapping[str, Layer], scale: float, name: str | None = None) -> Lora:
    """Read an adapter from a safetensors file, in any of the dialects of `layouts.adapters`.

    Args:
        path: The file.
        targets: All layers of the pipeline, by each of their spellings.
        scale: Factor of all changes.
        name: Its name; None for that of the file.

    Raises:
        ValueError: If the file holds something else, keys that do not belong to a layer, a layer without one of its
            factors or with two that differ, or numbers that are not finite; each is named.
    """
    if not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, got {scale}")
    headers = list(read_headers([path]))
    keys = _match(path, headers, targets)
    settings = read_settings(path, [stored.name for stored in keys])
    try:
        layers = _read_layers(keys)
        changes = [change for parts in _parts(layers, targets, settings) for change in make_changes(parts)]
        unique = tuple(_without_repeats(changes))
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path}: {error}") from error
    brought = bundled(path, [stored for stored in headers if stored.name.startswith(BUNDLE)])
    return Lora(path.name if name is None else name, float(scale), unique, brought, str(path))


def _match(path: Path, headers: Sequence[Stored], targets: Mapping[str, Layer]) -> dict[Stored, Key]:
    """Match the keys of a file with the layers of the pipeline; no tensor is read."""
    ia3 = ia3_layers(stored.name for stored in headers)
    found: dict[Stored, Key] = {}
    strange, unmatched = [], []
    require_read(path, headers)
    for stored in headers:
        if stored.name.startswith(BUNDLE):
            continue
        key = parse(stored.name, ia3)
        if key is None:
            strange.append(stored)
        elif key.layer not in targets:
            unmatched.append(stored)
        elif key.part not in _NUMBERS and not stored.is_float:
            raise ValueError(f"{path}: {stored.name!r} holds {stored.format}, expected floats")
        else:
            found[stored] = key
    if strange or unmatched or not headers:
        both = [stored.name for stored in unmatched if _in_both_encoders(parse(stored.name, ia3), targets)]
        if both and len(both) == len(unmatched):
            raise ValueError(
                f"{path}: {both[0]!r} names a layer of both text encoders of this pipeline; put the prefix "
                "text_encoder. or text_encoder_2. in front of each key"
            )
        raise ValueError(f"{path}: {complaint(headers, strange, unmatched)}")
    return found


def _in_both_encoders(key: Key | None, targets: Mapping[str, Layer]) -> bool:
    return key is not None and all(f"{name}.{key.layer}" in targets for name in ("text_encoder", "text_encoder_2"))


def _read_layers(keys: Mapping[Stored, Key]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each layer by their parts; raises ValueError if one is there twice with different numbers."""
    layers: dict[str, dict[str, Tensor]] = {}
    names: dict[tuple[str, str], str] = {}
    for stored, tensor in read_tensors(sorted(keys, key=lambda stored: stored.index)):
        key = keys[stored]
        dtype = tensor.dtype if stored.format in _COMPUTED or not stored.is_float else torch.float32
        copy = copied(stored, tensor, dtype, torch.device("cpu"))
        parts = layers.setdefault(key.layer, {})
        if key.part in parts and not equal(parts[key.part], copy):
            first = names[key.layer, key.part]
            raise ValueError(
                f"{first!r} and {stored.name!r} are the same factor of one layer and differ; take one of them out"
            )
        parts[key.part] = copy
        names[key.layer, key.part] = stored.name
    return layers


def _parts(
    layers: Mapping[str, Mapping[str, Tensor]],
    targets: Mapping[str, Layer],
    settings: Mapping[str, Settings],
) -> Iterator[Parts]:
    for layer, tensors in layers.items():
        place = targets[layer]
        yield Parts(layer, tensors, place, settings.get(place.component, settings[""]))


def _without_repeats(changes: Sequence[Change]) -> Iterator[Change]:
    """The changes, each once; raises ValueError if two of a parameter differ."""
    owners: dict[tuple[str, str], Change] = {}
    for change in changes:
        target = change.target
        earlier = [owner for name in target.weights if (owner := owners.get((target.component, name))) is not None]
        for owner in earlier:
            if owner.target.weights != target.weights or not equal(owner.method, change.method):
                raise ValueError(
                    f"{owner.layer!r} and {change.layer!r} are spellings of one layer, and their factors differ: they "
                    "would count twice; take one of them out"
                )
        if not earlier:
            owners |= {(target.component, name): change for name in target.weights}
            yield change
