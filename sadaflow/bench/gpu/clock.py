"""Measures milliseconds of parts of a run: with CUDA events on a GPU, with the host's clock elsewhere."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from sadaflow.models import Seam


class Spans:
    """Durations of consecutive spans, which are read after all have been recorded."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: list[tuple[Any, Any]] = []
        self._seconds: list[float] = []

    @contextmanager
    def span(self) -> Iterator[None]:
        """Context manager that records a span."""
        if self._device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            yield
            end.record()
            self._events.append((begin, end))
        else:
            began = perf_counter()
            yield
            self._seconds.append(perf_counter() - began)

    def milliseconds(self) -> list[float]:
        """Returns the duration of every span so far; waits for the device."""
        if self._events:
            torch.cuda.synchronize(self._device)
        timed = [begin.elapsed_time(end) for begin, end in self._events]
        return [*timed, *(1e3 * seconds for seconds in self._seconds)]


class TimedBackbone:
    """A prepared backbone whose evaluations are recorded as spans."""

    def __init__(self, backbone: Any, spans: Spans) -> None:
        self._backbone, self._spans = backbone, spans

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        raise NotImplementedError("a prepared backbone is evaluated in three parts")

    def prepare(self, **conditioning: Tensor) -> Mapping[str, Tensor]:
        made: Mapping[str, Tensor] = self._backbone.prepare(**conditioning)
        return made

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        made: Tensor = self._backbone.prepare_times(timesteps, given)
        return made

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam, **settings: Any) -> Tensor:
        with self._spans.span():
            made: Tensor = self._backbone.evaluate(x, time, given, seam, **settings)
        return made


def synchronize(device: torch.device) -> None:
    """Waits for the device, if it is not the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(act: Callable[[], object], device: torch.device) -> float:
    """Returns wall-clock seconds until `act` has returned and the device has finished."""
    synchronize(device)
    began = perf_counter()
    act()
    synchronize(device)
    return perf_counter() - began


def median_milliseconds(act: Callable[[], object], device: torch.device, times: int, warm_up: int = 2) -> float:
    """Returns the median milliseconds of `times` runs of `act`, after `warm_up` runs that do not count."""
    for _ in range(warm_up):
        act()
    spans = Spans(device)
    for _ in range(times):
        with spans.span():
            act()
    return median(spans.milliseconds())
