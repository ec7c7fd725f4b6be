"""Numbers that the host reads off a device: the only place in a run where it waits for one."""

import torch
from torch import Tensor


class Readback:
    """Numbers (of any shape) on their way to the host, which goes on meanwhile and waits only when it reads them.

    `tolist()` of a tensor waits for everything that the device was asked for before it; this waits for the numbers.
    """

    def __init__(self, numbers: Tensor) -> None:
        self._numbers = numbers.detach()
        self._arrived: torch.cuda.Event | None = None
        if numbers.device.type == "cuda":
            self._numbers = self._numbers.to("cpu", non_blocking=True)  # to pinned memory, as torch does it then
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(numbers.device))

    def read(self) -> list[float]:
        """The numbers, one after the other."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return [float(number) for number in self._numbers.flatten().tolist()]
