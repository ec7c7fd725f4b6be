"""Times parts of a run on the host or the device, without making either wait for the other."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch


class Stopwatch:
    """Adds up the seconds spent in named parts.

    On CUDA a part is the time between two events of the device's current stream, so work counts in the part that
    queued it. Only reading the watch waits for the device.

    Args:
        device: The device that does the work.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events = device.type == "cuda"
        self._spans: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._totals: dict[str, float] = defaultdict(float)

    @contextmanager
    def measuring(self, part: str) -> Iterator[None]:
        """Context manager: what happens in it counts as `part`."""
        if self._events:
            begin = self._event()
            yield
            self._spans.append((part, begin, self._event()))
        else:
            mark = perf_counter()
            yield
            self._totals[part] += perf_counter() - mark

    def seconds(self, part: str) -> float:
        """Seconds spent in `part` so far."""
        if self._spans:
            torch.cuda.synchronize(self._device)
            for name, begin, end in self._spans:
                self._totals[name] += begin.elapsed_time(end) / 1000
            self._spans.clear()
        return self._totals[part]

    def now(self) -> float:
        """Wall-clock time in seconds, after waiting for the device."""
        if self._events:
            torch.cuda.synchronize(self._device)
        return perf_counter()

    def _event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
