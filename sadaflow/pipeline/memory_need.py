"""Compares a lower bound of the memory that a call needs with the memory that exists, before allocating any.

It is a lower bound, so that no call is refused that could run: the sampler's states, the decoded pictures, one layer of
the decoder and the solver's grid. Weights, activations of the backbone and text are not counted.
"""

import math
import os
from pathlib import Path
from typing import Final

import torch

from ..families import AudioFamily, Family, VideoFamily

_STATES: Final = 3  # noise, x and x0, in float32
_STEP: Final = 250  # bytes of a step: its points on the grid and its node, measured with tracemalloc
_CGROUP: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_FLOAT: Final = 4
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class NotEnoughMemory(ValueError, MemoryError):
    """A call needs more memory than the machine has."""


def require_memory_for_steps(steps: int) -> None:
    """Check that a grid of so many steps fits in the host's memory.

    Raises:
        NotEnoughMemory: If it does not.
    """
    _require(steps * _STEP, f"steps={steps}", None)


def require_memory_for_pictures(
    family: Family, samples: int, shape: tuple[int, ...], device: torch.device, output: str
) -> None:
    """Check that a call fits in the memory of its device and of the host.

    Args:
        family: The checkpoint's networks.
        samples: Number of samples in the batch.
        shape: Shape (C, h, w) of the latents of a sample, or (C, T, h, w) of a video.
        device: Where the networks run.
        output: The form of the output; "latent" decodes nothing.

    Raises:
        NotEnoughMemory: If it does not.
    """
    factor = family.vae.config.downscale
    height, width = (side * factor for side in shape[-2:])
    frames = (shape[1] - 1) * family.frames_per_latent + 1 if isinstance(family, VideoFamily) else 1
    what = f"{samples} sample(s) of {height}x{width}" + (f" and {frames} frames" if frames > 1 else "")
    state = samples * math.prod(shape) * _FLOAT
    decoded = 0 if output == "latent" else _decoding(family, samples, frames, height, width)
    _require(max(_STATES * state, state + decoded), what, device)
    _require(state, what, None)  # the noise is drawn on the host


def _decoding(family: Family, samples: int, frames: int, height: int, width: int) -> int:
    """Bytes of all decoded pictures or spectrograms, and of the input and output of the decoder's last level.

    Videos are decoded a latent frame at a time.
    """
    pixels = height * width
    channels = 1 if isinstance(family, AudioFamily) else 3
    tile = family.vae.tile
    level = min(height, tile or height) * min(width, tile or width) * family.vae.config.block_out_channels[0]
    weight = next(family.vae.parameters(), None)  # there is none if the network samples pixels
    return samples * frames * channels * pixels * _FLOAT + (0 if weight is None else 2 * level * weight.element_size())


def _require(needed: int, what: str, device: torch.device | None) -> None:
    on_device = device is not None and device.type == "cuda"
    there = torch.cuda.mem_get_info(device)[1] if on_device else host_memory()
    if there is not None and needed > there:
        where = str(device) if on_device else "this machine"
        raise NotEnoughMemory(
            f"not enough memory: {what} takes at least {_size(needed)}, and {where} has {_size(there)} in all"
        )


def host_memory() -> int | None:
    """Bytes of memory that this process may use: the machine's, or its control group's limit. None if unknown."""
    try:
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return None
    for path in _CGROUP:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue
    return min(found)


def _size(count: int) -> str:
    """A number of bytes in the largest unit that is smaller."""
    if count.bit_length() > 1000:
        return "more than 10^300 B"
    power = min((count.bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{count / 1024**power:.3g} {_UNITS[power]}"
