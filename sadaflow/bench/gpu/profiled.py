"""Profiles an action: kernel launches and waits on a GPU, calls of operators on a CPU."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
_PRODUCTS = ("aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm", "aten::_scaled_mm")
_ATTENTION = "scaled_dot_product"


@dataclass(frozen=True)
class Profile:
    """What an action asked of the device.

    Attributes:
        launches: Kernel launches.
        waits: How often the host waited for the device.
        milliseconds: Time of the device in "matrix products", "convolutions", "attention" and "rest".
        attention: Operators that computed attention.
    """

    launches: int
    waits: int
    milliseconds: dict[str, float]
    attention: dict[str, int]


def profiled(act: Callable[[], object], device: torch.device) -> Profile:
    """Profiles a run of `act`, which should have run before."""
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiler:
        act()
        if cuda:
            torch.cuda.synchronize(device)
    launches = waits = 0
    times: Counter[str] = Counter()
    attention: Counter[str] = Counter()
    for event in profiler.key_averages():
        own = event.self_device_time_total if cuda else event.self_cpu_time_total
        if event.key.startswith(("aten::", "mkldnn::", "cudnn::")):
            times[_kind(event.key)] += own / 1e3
            launches += 0 if cuda else event.count
        if "aunchKernel" in event.key:  # cudaLaunchKernel, cudaLaunchKernelExC, cuLaunchKernel, cuLaunchKernelEx
            launches += event.count
        if event.key in _WAITS:
            waits += event.count
        if _ATTENTION in event.key and event.key != f"aten::{_ATTENTION}_attention":
            attention[event.key] += event.count
    return Profile(launches, waits, dict(times), dict(attention))


def _kind(operator: str) -> str:
    if operator in _PRODUCTS:
        return "matrix products"
    if "conv" in operator:
        return "convolutions"
    return "attention" if "attention" in operator or "flash" in operator else "rest"
