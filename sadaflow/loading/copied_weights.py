"""Copies stored tensors to a network's dtype, layout and device, and checks that they are finite."""

import math

import numpy as np
import torch

from .safetensors_file import Stored

_LARGE, _CHUNK = 2**20, 2**18  # elements
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_HALVES = (torch.float16, torch.bfloat16)


def copied(stored: Stored, tensor: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Copy a tensor to `device` in `dtype`; tensors of four dimensions get channels-last layout.

    Raises:
        ValueError: If it holds NaN or infinity, or overflows in `dtype`.
    """
    if device.type == "cpu" and tensor.numel() >= _LARGE and tensor.dim() > 0:
        copy, finite = _copy_in_chunks(tensor, dtype)
    else:
        layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
        copy = tensor.to(device=device, dtype=dtype, copy=True, memory_format=layout)
        finite = not stored.is_float or is_finite(copy)
    if stored.is_float and not finite:
        if is_finite(tensor.double()):
            hint = "load in torch.bfloat16 or torch.float32"
            raise ValueError(f"{stored.path}: {stored.name} does not fit {copy.dtype}: {hint}")
        raise ValueError(f"{stored.path}: {stored.name} holds NaN or infinity: the file is damaged; download it again")
    return copy


def _copy_in_chunks(tensor: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, bool]:
    """A copy on the CPU, and whether it is finite. Each chunk is converted, stored and checked while it is in cache.

    float16 and bfloat16 are converted through float32, which torch vectorizes. numpy allocates memory in huge pages,
    which take less time to map, and permutes axes faster.
    """
    shape = torch.Size((tensor.shape[0], *tensor.shape[2:], tensor.shape[1])) if tensor.dim() == 4 else tensor.shape
    copy = torch.from_numpy(np.empty(tensor.numel() * dtype.itemsize, np.uint8)).view(dtype).view(shape)
    bits = copy.view(_INTEGERS[dtype.itemsize]).numpy()
    through = tensor.dtype in _HALVES and dtype in _HALVES and tensor.dtype is not dtype
    step, finite = max(1, _CHUNK * len(tensor) // tensor.numel()), True
    wide = torch.empty((min(step, len(tensor)) if through else 0, *tensor.shape[1:]))  # new memory takes time to map
    for start in range(0, len(tensor), step):
        part, stored = tensor[start : start + step], copy[start : start + step]
        part = wide[: len(part)].copy_(part) if through else part
        if tensor.dim() == 4:
            raw = part.to(dtype).contiguous().view(_INTEGERS[dtype.itemsize]).numpy()
            bits[start : start + step] = raw.transpose(0, 2, 3, 1)
        else:
            stored.copy_(part)
        finite = finite and is_finite(stored)
    return copy.permute(0, 3, 1, 2) if tensor.dim() == 4 else copy, finite


def in_channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor of four dimensions on the CPU in channels-last layout."""
    return _copy_in_chunks(tensor, tensor.dtype)[0]


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all elements are finite. One pass, without a temporary tensor."""
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.permute(0, 2, 3, 1)  # contiguous again; aminmax copies other layouts
    return tensor.numel() == 0 or all(math.isfinite(bound.item()) for bound in tensor.aminmax())
