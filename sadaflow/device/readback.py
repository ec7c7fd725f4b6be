"""Reads numbers from a device: the only point at which a run waits for it."""

from typing import Final

import torch
from torch import Tensor

_LATER: Final = ("cuda", "lazy")  # types of devices whose copies arrive later; lazy is the simulated one (`bench.gpu`)


def arrives_later(device: torch.device) -> bool:
    """Whether copies from `device` to the host arrive later, so that reading at once would make the host wait."""
    return device.type in _LATER


class Readback:
    """A copy of numbers from the device to the host, for which the host waits only when it reads them.

    `tolist()` of a tensor waits for all work queued on the device; this waits for the work before the copy only, and
    not at all if something queued after the copy has been waited for.

    Args:
        numbers: A tensor of any shape.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers.detach().flatten()
        self._arrived: torch.cuda.Event | None = None
        if arrives_later(numbers.device):
            self._numbers = self._numbers.to("cpu", non_blocking=True)  # torch copies to pinned memory here
        if numbers.device.type == "cuda":
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(numbers.device))

    def read(self) -> list[float]:
        """Waits for the numbers and returns them, flattened."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return [float(number) for number in self._numbers.tolist()]
