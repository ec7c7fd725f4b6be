"""Selects and writes rows of a batch by indices on the host, without waiting for the device.

Indexing a tensor by a list makes torch copy the list to the device and wait for all work queued there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def taken(batch: Tensor, rows: Sequence[int]) -> Tensor:
    """Selects `rows` of a batch (B, ...): a view (len(rows), ...) if they are consecutive, otherwise a copy."""
    part = _run(rows)
    return batch[part] if part is not None else batch.index_select(0, index_of(rows, batch.device))


def put(batch: Tensor, rows: Sequence[int], fresh: Tensor) -> None:
    """Writes fresh (len(rows), ...) into `rows` of a batch (B, ...)."""
    part = _run(rows)
    if part is not None:
        batch[part].copy_(fresh)
    else:
        batch.index_copy_(0, index_of(rows, batch.device), fresh.to(batch.dtype))


def renewed(kept: Tensor | None, fresh: Tensor, rows: Sequence[int]) -> Tensor:
    """A copy of `kept` (B, ...) with `rows` replaced by those of `fresh` (B, ...); `fresh` if `kept` is None."""
    if kept is None or len(rows) == len(fresh):
        return fresh
    return torch.where(mask_of(rows, fresh), fresh, kept)


def mask_of(rows: Sequence[int], batch: Tensor) -> Tensor:
    """A mask that is True for `rows`, on the device of a batch (B, ...) and broadcast with it: (B, 1, ...)."""
    mask = np.zeros(len(batch), dtype=bool)
    mask[np.asarray(rows, dtype=np.int64)] = True
    return sent(mask, batch.device, torch.bool).view(-1, *[1] * (batch.dim() - 1))


def index_of(rows: Sequence[int], device: torch.device) -> Tensor:
    """Copies `rows` to the device, as (len(rows),) int64."""
    return sent(rows, device, torch.long)


def sent(numbers: Sequence[float] | NDArray[Any], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Copies numbers to the device: a list as (len(numbers),), an array in its own shape."""
    host = torch.tensor(numbers if isinstance(numbers, np.ndarray) else list(numbers), dtype=dtype)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)


def _run(rows: Sequence[int]) -> slice | None:
    """The slice that equals these rows; None if they are not consecutive."""
    first, count = (rows[0], len(rows)) if rows else (0, 0)
    return slice(first, first + count) if list(rows) == list(range(first, first + count)) else None
