"""Reads numbers from a device: the only point at which a run waits for it."""

import torch
from torch import Tensor


class Readback:
    """A copy of numbers from the device to the host, for which the host waits only when it reads them.

    `tolist()` of a tensor waits for all work queued on the device; this waits for the work before the copy only.

    Args:
        numbers: A tensor of any shape.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers.detach()
        self._arrived: torch.cuda.Event | None = None
        if numbers.device.type == "cuda":
            self._numbers = self._numbers.to("cpu", non_blocking=True)  # torch copies to pinned memory here
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(numbers.device))

    def read(self) -> list[float]:
        """Waits for the numbers and returns them, flattened."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return [float(number) for number in self._numbers.flatten().tolist()]
