"""Reads headers and tensors of safetensors files, a part of the file at a time."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

# Number formats of weights; the others are integers and booleans.
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_BITS = {
    **{"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32},
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
}
_MAPPED = 16 * 2**20
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LARGE_FILE, _LARGE_TENSOR = 2**30, 2**20  # bytes


@dataclass(frozen=True)
class Stored:
    """A tensor as the header of a safetensors file describes it.

    Attributes:
        path: The file.
        name: Name of the tensor in the file.
        shape: Its shape.
        format: Its number format, in the file's spelling ("F16").
        index: Its position in the header.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    format: str
    index: int = 0

    @property
    def is_float(self) -> bool:
        return self.format in _FLOATS

    @property
    def elements(self) -> int:
        return torch.Size(self.shape).numel()

    @property
    def element_bits(self) -> int:
        """Bits of an element in the file."""
        return _BITS.get(self.format, 16)

    @property
    def bytes(self) -> int:
        """Size in memory in bytes; formats of less than 16 bits count as 16."""
        return self.elements * max(self.element_bits, 16) // 8


def open_safetensors(path: Path) -> safe_open:
    """Open a safetensors file; raises ValueError if it is truncated or of another type."""
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        # Checked only after the failure: a valid file begins with a length, which may look like a pickle.
        if path.is_file() and (other := other_format(path)) is not None:
            raise ValueError(f"{path} is {other}") from error
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) is truncated or not a safetensors file "
            f"({str(error)[:300]}); download it again"
        ) from error


_NOT = "truncated or not a safetensors file: it is "
_PAGE = f"{_NOT}an HTML page, with which a server answered instead of the weights; download it again"
_PICKLE = "a pickle{name}, which can run code when it is read, and will not be read; convert it to safetensors"
_GGUF = "a GGUF file, whose quantized weights are not read; take the safetensors file with 16-bit weights"
_FORMATS = (
    (b"version https://git-lfs", f"{_NOT}a git-lfs pointer to the weights; run `git lfs pull`, or download the file"),
    (b"<!doctype", _PAGE),
    (b"<html", _PAGE),
    (b"<?xml", _PAGE),
    (b"gguf", f"{_NOT}{_GGUF}"),
    (b"pk", _PICKLE),
    (b"\x80", _PICKLE),
    (b"\x89hdf", f"{_NOT}an HDF5 file; take the safetensors file"),
)
"""What other files begin with, in lower case, and what to do."""


def other_format(path: Path) -> str | None:
    """What a file is that is not a safetensors file, by its first bytes, and what to do; None if they do not tell."""
    with path.open("rb") as file:
        head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    found = next((what for start, what in _FORMATS if head.startswith(start)), None)
    name = " under a safetensors name" if path.suffix in (".safetensors", ".sft") else ""
    return None if found is None else found.replace("{name}", name)


def read_headers(files: Sequence[Path]) -> Iterator[Stored]:
    """Read all tensors' descriptions from the headers of `files`; no tensor is read."""
    for path in files:
        with open_safetensors(path) as file:
            for index, name in enumerate(file.keys()):  # noqa: SIM118 - safe_open is not a mapping
                part = file.get_slice(name)
                yield Stored(path, name, tuple(part.get_shape()), str(part.get_dtype()), index)


def read_tensors(stored: Sequence[Stored]) -> Iterator[tuple[Stored, torch.Tensor]]:
    """Read tensors from their files, memory-mapped. The caller must copy each one before it requests the next.

    A file is mapped anew after 16 MiB, a sixteenth of all bytes or one tensor, whichever is the most, so that pages
    that have been copied are not held in memory beside the copy. Smaller parts cost more than they save, because each
    mapping reads the header again.

    Args:
        stored: The tensors, those of one file in succession.
    """
    start, most = 0, max(_MAPPED, sum(tensor.bytes for tensor in stored) // 16)
    while start < len(stored):
        with open_safetensors(stored[start].path) as file:
            mapped, path = 0, stored[start].path
            while start < len(stored) and stored[start].path == path and mapped < most:
                current = stored[start]
                mapped, start = mapped + current.bytes, start + 1
                yield current, file.get_tensor(current.name)


def can_stay_mapped(stored: Stored, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a tensor may stay in its mapped file: on a CPU, of a large file, in the dtype that it is stored in.

    What is left there takes no time to copy and no memory that the system cannot reclaim. The file must then not be
    overwritten while the network is in use. Small files are copied.
    """
    large = stored.elements * stored.element_bits // 8 >= _LARGE_TENSOR and stored.path.stat().st_size >= _LARGE_FILE
    return device.type == "cpu" and large and _DTYPES.get(stored.format) is dtype


def map_tensor(stored: Stored) -> torch.Tensor:
    """Map a tensor of its file to memory, apart from all others; writing to it does not change the file."""
    status = stored.path.stat()
    start, header = _header(stored.path, status.st_size, status.st_mtime_ns)
    first, last = header[stored.name]["data_offsets"]
    mapped = np.memmap(stored.path, np.uint8, "c", start + first, (last - first,))
    return torch.from_numpy(mapped).view(_DTYPES[stored.format]).view(stored.shape)


@lru_cache(maxsize=4)
def _header(path: Path, size: int, changed: int) -> tuple[int, Mapping[str, Mapping[str, list[int]]]]:
    """Where the data of a file begins, and the descriptions of its tensors, which `open_safetensors` has checked."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return 8 + length, json.loads(file.read(length))


def kept(stored: Stored, tensor: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The tensor itself if it is mapped apart from its file and has dtype, device and layout; else see `copied`.

    Raises:
        ValueError: As `copied`.
    """
    ready = tensor.dtype is dtype and tensor.device == device and tensor.is_contiguous(memory_format=_layout(tensor))
    if not ready:
        return copied(stored, tensor, dtype, device)
    if tensor.dim() == 4:  # operators choose their layout by the strides, which are ambiguous for 1x1 convolutions
        _, channels, height, width = tensor.shape
        strides = (channels * height * width, 1, channels * width, channels)
        tensor = tensor.as_strided(tensor.shape, strides, tensor.storage_offset())
    return _checked(stored, tensor, tensor)


def copied(stored: Stored, tensor: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Copy a tensor to `device` in `dtype`; tensors of four dimensions get channels-last layout.

    Raises:
        ValueError: If it holds NaN or infinity, or overflows in `dtype`.
    """
    copy = tensor.to(device=device, dtype=dtype, copy=True, memory_format=_layout(tensor))
    return _checked(stored, tensor, copy)


def _layout(tensor: torch.Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.dim() == 4 else torch.contiguous_format


def _checked(stored: Stored, tensor: torch.Tensor, copy: torch.Tensor) -> torch.Tensor:
    """`copy`, the tensor in the dtype of a network; raises ValueError if it is not finite."""
    if stored.is_float and not is_finite(copy):
        if is_finite(tensor.double()):
            hint = "load in torch.bfloat16 or torch.float32"
            raise ValueError(f"{stored.path}: {stored.name} does not fit {copy.dtype}: {hint}")
        raise ValueError(f"{stored.path}: {stored.name} holds NaN or infinity: the file is damaged; download it again")
    return copy


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all elements are finite. One pass, without a temporary tensor."""
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)  # contiguous again; aminmax copies other layouts
    return tensor.numel() == 0 or all(math.isfinite(bound.item()) for bound in tensor.aminmax())
