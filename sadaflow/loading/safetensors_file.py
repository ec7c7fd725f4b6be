"""Safetensors files: their headers, and their tensors a part of the file at a time."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

# Number formats of the files that stand for real weights; the rest are whole numbers and truth values.
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32}
_MAPPED = 16 * 2**20


@dataclass(frozen=True)
class Stored:
    """What a header says of a tensor; `kind` is the file's name for its number format ("F16"), `index` its place in
    the order of the header."""

    path: Path
    name: str
    shape: tuple[int, ...]
    kind: str
    index: int = 0

    @property
    def is_float(self) -> bool:
        return self.kind in _FLOATS

    @property
    def elements(self) -> int:
        return torch.Size(self.shape).numel()

    @property
    def bytes(self) -> int:
        """Size in the file; formats of less than 16 bits count as 16."""
        return self.elements * _BITS.get(self.kind, 16) // 8


def open_safetensors(path: Path) -> safe_open:
    """Open a safetensors file for reading; ValueError if it is truncated or is something else."""
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        # Only now: the length that a safetensors file begins with may look like the start of a pickle.
        with path.open("rb") as file:
            head = file.read(2)
        if head == b"PK" or head[:1] == b"\x80":
            raise ValueError(
                f"{path} is a pickle under a safetensors name, and will not be read; convert it to safetensors"
            ) from error
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) is truncated or no safetensors file "
            f"({str(error)[:300]}); download it again"
        ) from error


def read_headers(files: Sequence[Path]) -> Iterator[Stored]:
    """Every tensor that the headers of `files` describe; nothing else is read."""
    for path in files:
        with open_safetensors(path) as file:
            for index, name in enumerate(file.keys()):  # noqa: SIM118 - safe_open is no mapping
                part = file.get_slice(name)
                yield Stored(path, name, tuple(part.get_shape()), str(part.get_dtype()), index)


def read_tensors(stored: Sequence[Stored]) -> Iterator[tuple[Stored, torch.Tensor]]:
    """The tensors, memory-mapped: the caller copies each before it asks for the next.

    At most 16 MiB, a sixteenth of all or one tensor stay mapped, so that pages already copied are not held beside the
    copy. Mapping less at a time costs more than it saves: each time the header is read again.
    """
    start, most = 0, max(_MAPPED, sum(one.bytes for one in stored) // 16)
    while start < len(stored):
        with open_safetensors(stored[start].path) as file:
            mapped, path = 0, stored[start].path
            while start < len(stored) and stored[start].path == path and mapped < most:
                one = stored[start]
                mapped, start = mapped + one.bytes, start + 1
                yield one, file.get_tensor(one.name)


def placed(one: Stored, tensor: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A copy in `dtype` on `device`, convolutions in channels-last layout; ValueError if it holds NaN or infinity."""
    layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
    copy = tensor.to(device=device, dtype=dtype, copy=True, memory_format=layout)
    if one.is_float and not is_finite(copy):
        if is_finite(tensor.double()):
            raise ValueError(f"{one.path}: {one.name} does not fit {dtype}: load in torch.bfloat16 or torch.float32")
        raise ValueError(f"{one.path}: {one.name} holds NaN or infinity: the file is damaged; download it again")
    return copy


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no element is NaN or infinite: one pass, no memory."""
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)  # as it lies in memory: the search copies what it does not find so
    return tensor.numel() == 0 or all(math.isfinite(bound.item()) for bound in tensor.aminmax())
