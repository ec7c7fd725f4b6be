"""Leaves the weights of large files in the mapped file, and says which of them are damaged when a run fails."""

import json
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, wraps
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import nn

from .copied_weights import in_channels_last, is_finite
from .safetensors_file import Stored

P = ParamSpec("P")
T = TypeVar("T")

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LARGE_FILE, _LARGE_TENSOR = 2**30, 2**20  # bytes
_UNREAD, _LAID_OUT = "_unread_weights", "_laid_out"


def can_stay_mapped(stored: Stored, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a tensor may stay in its mapped file: on a CPU, of a large file, in the dtype that it is stored in.

    What is left there takes no time to copy and no memory that the system cannot reclaim. The file must then not be
    overwritten while the network is in use. Small files are copied.
    """
    if device.type != "cpu" or _DTYPES.get(stored.format) is not dtype:
        return False
    return stored.elements * stored.element_bits // 8 >= _LARGE_TENSOR and stored.path.stat().st_size >= _LARGE_FILE


def map_tensor(stored: Stored) -> torch.Tensor:
    """Map a tensor of its file to memory, apart from all others; writing to it does not change the file."""
    with stored.path.open("rb") as file:
        status = os.fstat(file.fileno())
        start, header = _header(stored.path, status.st_size, status.st_mtime_ns)
        first, last = header[stored.name]["data_offsets"]
        page = (start + first) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(file.fileno(), start + last - page, access=mmap.ACCESS_COPY, offset=page)
    values = np.frombuffer(mapped, np.uint8, offset=start + first - page)
    return torch.from_numpy(values).view(_DTYPES[stored.format]).view(stored.shape)


@lru_cache(maxsize=4)
def _header(path: Path, size: int, changed: int) -> tuple[int, Mapping[str, Mapping[str, list[int]]]]:
    """Where the data of a file begins, and the descriptions of its tensors, which `open_safetensors` has checked."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return 8 + length, json.loads(file.read(length))


def as_stored(tensor: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor | None:
    """A mapped tensor for a network; None if that needs a copy, for its dtype, device or strides.

    Kernels of convolutions larger than 1x1 are not in channels-last layout; see `lay_out`.
    """
    if tensor.dtype is not dtype or tensor.device != device or not tensor.is_contiguous():
        return None
    if tensor.dim() != 4 or tensor.shape[2:] != (1, 1):
        return tensor
    channels = tensor.shape[1]  # operators choose their layout by strides, which are ambiguous for 1x1 kernels
    return tensor.as_strided(tensor.shape, (channels, 1, channels, channels), tensor.storage_offset())


def lay_out(networks: Iterable[object]) -> None:
    """Converts the mapped weights of convolutions to channels-last layout, once, before the first run.

    Args:
        networks: Networks, which may contain others; what is not a module is skipped.
    """
    for module in _modules(networks):
        if getattr(module, _UNREAD, ()) and not getattr(module, _LAID_OUT, False):
            for parameter in module.parameters():
                if parameter.dim() == 4 and not parameter.is_contiguous(memory_format=torch.channels_last):
                    parameter.data = in_channels_last(parameter.data)
            setattr(module, _LAID_OUT, True)


def remember_unread(network: nn.Module, stored: Iterable[Stored]) -> None:
    """Notes in a network which of its weights loading has left in the file, unread."""
    setattr(network, _UNREAD, tuple(stored))


def damaged(networks: Iterable[object]) -> tuple[Stored, ...]:
    """Reads the weights that loading has left unread.

    Args:
        networks: Networks, which may contain others; what is not a module is skipped.

    Returns:
        The tensors that hold NaN or infinity. Only they count as unread afterwards.
    """
    found: list[Stored] = []
    for module in _modules(networks):
        if unread := getattr(module, _UNREAD, ()):
            bad = [stored for stored in unread if not is_finite(map_tensor(stored))]
            remember_unread(module, bad)
            found += bad
    return tuple(found)


def _modules(networks: Iterable[object]) -> Iterator[nn.Module]:
    for network in networks:
        yield from network.modules() if isinstance(network, nn.Module) else ()


class _Networked(Protocol):
    @property
    def networks(self) -> Mapping[str, object]: ...


class _HasFamily(Protocol):
    @property
    def family(self) -> _Networked: ...


def reads_mapped_weights(run: Callable[P, T]) -> Callable[P, T]:
    """Decorates a method of a pipeline that runs its networks, whose weights may be mapped and unread.

    Before the first run convolutions are laid out. An error for numbers that are not finite names the damaged weights,
    which loading names if it reads them.
    """

    @wraps(run)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        networks = cast("_HasFamily", args[0]).family.networks.values()
        lay_out(networks)
        try:
            return run(*args, **kwargs)
        except FloatingPointError as error:
            if not (bad := damaged(networks)):
                raise
            names = ", ".join(stored.name for stored in bad[:3]) + (", ..." if len(bad) > 3 else "")
            raise FloatingPointError(
                f"{bad[0].path}: {len(bad)} tensors hold NaN or infinity ({names}): the file is damaged; download it "
                f"again ({error})"
            ) from error

    return checked
