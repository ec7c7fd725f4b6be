"""Reads headers and tensors of safetensors files, a part of the file at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

# Number formats of weights; the others are integers and booleans.
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_BITS = {
    **{"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32},
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
}
_MAPPED = 16 * 2**20


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
