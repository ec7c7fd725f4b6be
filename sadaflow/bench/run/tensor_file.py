"""Safetensors files of a bench, which hold a digest of their tensors and say what they belong to."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from ...files.atomic import write_atomically
from ...files.own_json import read_bytes

_ABOUT = "about"  # a single entry of metadata, since safetensors writes several in any order
_LARGEST = 2**36


def write_tensors(path: Path, tensors: Mapping[str, Tensor], named: Mapping[str, str]) -> None:
    """Writes tensors.

    Args:
        path: The file.
        tensors: Tensors by name.
        named: What they belong to.
    """
    kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, save(kept, metadata=_metadata(kept, named)))


def read_tensors(path: Path, named: Mapping[str, str]) -> dict[str, Tensor]:
    """Reads what `write_tensors` wrote.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If a byte of it was changed, or if it belongs to something else.
    """
    content = read_bytes(path, _LARGEST)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
        tensors = load(content)
    except (SafetensorError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    if metadata != _metadata(tensors, named):
        raise ValueError(f"{path} is damaged (its tensors are not those that were written)")
    return tensors


def _metadata(tensors: Mapping[str, Tensor], named: Mapping[str, str]) -> dict[str, str]:
    return {_ABOUT: json.dumps({**named, "sha256": _digest(tensors)})}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
