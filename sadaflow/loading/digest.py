"""A digest of a network's weights, from a small part of its files."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from .safetensors_file import Stored, open_safetensors

_READ: Final = 32  # tensors of which a part is read


def weights_digest(stored: Iterable[Stored]) -> str:
    """SHA-256 of the names, formats and shapes of stored tensors, and of the first rows of some of them.

    Args:
        stored: The tensors; their order does not matter.

    Returns:
        The digest, 64 hexadecimal digits.
    """
    tensors = sorted(stored, key=lambda tensor: tensor.name)
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.name} {tensor.format} {tensor.shape}\n".encode())
    sized = [tensor for tensor in tensors if tensor.elements and tensor.is_float]
    files: dict[Path, Any] = {}
    for index in sorted(set(np.linspace(0, len(sized) - 1, _READ).round().astype(int).tolist())) if sized else ():
        path, name = sized[index].path, sized[index].name
        file = files[path] = files[path] if path in files else open_safetensors(path)
        first = file.get_slice(name)[:1] if sized[index].shape else file.get_tensor(name)
        digest.update(first.double().numpy().tobytes())
    return digest.hexdigest()
