"""Selects and writes rows of a batch by indices on the host, without waiting for the device.

Indexing a tensor by a list makes torch copy the list to the device and wait for all work queued there.
"""

from collections.abc import Sequence

import torch
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
    index = index_of(rows, fresh.device)
    return kept.index_copy(0, index, fresh.index_select(0, index))


def index_of(rows: Sequence[int], device: torch.device) -> Tensor:
    """Copies `rows` to the device, as (len(rows),) int64."""
    return sent(rows, device, torch.long)


def sent(numbers: Sequence[float], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Copies numbers to the device, as (len(numbers),)."""
    host = torch.tensor(list(numbers), dtype=dtype)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)


def _run(rows: Sequence[int]) -> slice | None:
    """The slice that equals these rows; None if they are not consecutive."""
    first, count = (rows[0], len(rows)) if rows else (0, 0)
    return slice(first, first + count) if list(rows) == list(range(first, first + count)) else None
