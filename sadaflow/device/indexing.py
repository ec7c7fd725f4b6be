"""Rows of a batch by numbers that the host knows, without making it wait for the device.

Where torch indexes by a list it copies the list to the device, and waits until that has done all it was asked before.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def taken(batch: Tensor, rows: Sequence[int]) -> Tensor:
    """Those `rows` of a batch (B, ...), (len(rows), ...): a view of it where they follow one another, else a copy."""
    part = _run(rows)
    return batch[part] if part is not None else batch.index_select(0, index_of(rows, batch.device))


def put(batch: Tensor, rows: Sequence[int], fresh: Tensor) -> None:
    """Write fresh (len(rows), ...) over those `rows` of a batch (B, ...)."""
    part = _run(rows)
    if part is not None:
        batch[part].copy_(fresh)
    else:
        batch.index_copy_(0, index_of(rows, batch.device), fresh.to(batch.dtype))


def renewed(kept: Tensor | None, fresh: Tensor, rows: Sequence[int]) -> Tensor:
    """`kept` (B, ...) with its `rows` taken from `fresh`, alike; all of that where nothing was kept."""
    if kept is None or len(rows) == len(fresh):
        return fresh
    index = index_of(rows, fresh.device)
    return kept.index_copy(0, index, fresh.index_select(0, index))


def index_of(rows: Sequence[int], device: torch.device) -> Tensor:
    """`rows` as a tensor on the device, (len(rows),) int64."""
    return sent(rows, device, torch.long)


def sent(numbers: Sequence[float], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The numbers as a tensor on the device, (len(numbers),)."""
    here = torch.tensor(list(numbers), dtype=dtype)
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here.to(device)


def _run(rows: Sequence[int]) -> slice | None:
    """The slice that these rows are, if they follow one another."""
    first, count = (rows[0], len(rows)) if rows else (0, 0)
    return slice(first, first + count) if list(rows) == list(range(first, first + count)) else None
