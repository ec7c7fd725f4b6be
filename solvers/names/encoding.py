"""Values of settings as JSON can hold them, exactly, and back."""

import base64
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

Encode = Callable[[Any, str], Any]
Decode = Callable[[Any, str], Any]

_DTYPES: Final[Mapping[str, torch.dtype]] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool)
}
_NUMPY: Final = {"bool": "u1", "uint8": "u1", "int32": "<i4", "int64": "<i8", "float16": "<f2", "float32": "<f4"}
_MANY: Final = 16
"""Number of elements from which a tensor is stored as packed bytes."""
_LARGEST: Final = 2**24
"""Most elements of a tensor that is read, far beyond any grid."""


def encode(value: Any, label: str, encode_object: Encode) -> Any:
    """The value as JSON can hold it.

    Args:
        value: None, a bool, number, string, tuple, list, mapping or tensor, or another object.
        label: Where the value is from, for errors.
        encode_object: Encodes other objects.

    Raises:
        ValueError: if a value cannot be stored.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return [encode(entry, f"{label}[{index}]", encode_object) for index, entry in enumerate(value)]
    if type(value) is list:
        return {"list": encode(tuple(value), label, encode_object)}
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {"mapping": {key: encode(entry, f"{label}[{key!r}]", encode_object) for key, entry in value.items()}}
    if isinstance(value, Tensor):
        return _packed(value, label)
    if isinstance(value, np.generic):
        return encode(value.item(), label, encode_object)
    return encode_object(value, label)


def decode(content: Any, label: str, decode_object: Decode) -> Any:
    """The value that `encode` stored; other JSON objects are decoded by `decode_object`.

    Raises:
        ValueError: if the content is malformed.
    """
    if content is None or isinstance(content, (bool, int, float, str)):
        return content
    if isinstance(content, list):
        return tuple(decode(entry, f"{label}[{index}]", decode_object) for index, entry in enumerate(content))
    if not isinstance(content, Mapping):
        raise ValueError(f"{label} is a {type(content).__name__}, which no config holds")
    if "tensor" in content:
        return _unpacked(content, label)
    held = next(iter(content.values()), None)
    match tuple(content):
        case ("float",) if held in ("inf", "-inf", "nan"):
            return float(held)
        case ("list",) if isinstance(held, list):
            return list(decode(held, label, decode_object))
        case ("mapping",) if isinstance(held, Mapping):
            return {str(key): decode(entry, f"{label}[{key!r}]", decode_object) for key, entry in held.items()}
    return decode_object(content, label)


def _packed(tensor: Tensor, label: str) -> dict[str, Any]:
    """A tensor with its values, in full up to 16 of them, and as compressed bytes, little-endian, beyond."""
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise ValueError(f"{label} is a tensor of {tensor.dtype}, which a config cannot hold")
    content: dict[str, Any] = {"tensor": name, "shape": list(tensor.shape)}
    plain = tensor.detach().cpu()
    if tensor.numel() < _MANY and bool(torch.isfinite(plain).all()):
        return {**content, "values": plain.flatten().tolist()}
    values = plain.contiguous().numpy().astype(_NUMPY.get(name, "<f8"), copy=False)
    return {**content, "zlib": base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()}


def _unpacked(content: Mapping[str, Any], label: str) -> Tensor:
    try:
        dtype, shape = _DTYPES[content["tensor"]], [int(side) for side in content["shape"]]
        count = math.prod(shape)
        if not 0 <= count <= _LARGEST or any(side < 0 for side in shape):
            raise ValueError(f"it has {count} elements")
        if "values" in content:
            return torch.tensor(content["values"], dtype=dtype).reshape(shape)
        kind = np.dtype(_NUMPY.get(content["tensor"], "<f8"))
        reader = zlib.decompressobj()
        raw = reader.decompress(base64.b64decode(content["zlib"], validate=True), count * kind.itemsize + 1)
        values = np.frombuffer(raw, kind).reshape(shape)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError, zlib.error) as error:
        raise ValueError(f"{label} is not a tensor of a config: {type(error).__name__}: {error}") from error
    return torch.from_numpy(values.astype(kind.newbyteorder("="), copy=True)).to(dtype)
