"""Checks that the sampling loop waits for the device only where a decision needs a number."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial

import torch

from ...sampling.loop import sample
from .launches import NONE, accelerator_named, cases, measure, problem, small_network
from .records import Record, Setup, attempted, omitted, row, verdict

_FEW = (NONE, "sada")


def run(setup: Setup) -> Iterator[Record]:
    """Runs every accelerator on a small U-Net and a small Flux, and reports where the host waits for the device.

    On a GPU torch raises at synchronising calls; elsewhere the simulated device counts reads.
    """
    chosen = [case for case in cases() if not setup.small or case[1] in _FEW]
    for number, (kind, name) in enumerate(chosen):
        if setup.left() < 1.5:
            yield omitted(f"{len(chosen) - number} accelerators, from {name!r} on", "the time of this part is over")
            return
        act = _on_gpu if setup.cuda else _simulated
        yield from attempted(f"{kind}, {name}", setup, partial(act, kind, name, setup.device))


def _simulated(kind: str, name: str, device: torch.device) -> Iterator[Record]:
    found = measure(kind, name, 4)
    yield row("simulated device, batch 4", case=f"{kind}, {name}", launches=found.launches, reads=found.reads)


def _on_gpu(kind: str, name: str, device: torch.device) -> Iterator[Record]:
    backbone = small_network(kind).to(device)
    solver, denoise, noise = problem(kind, 4, backbone, lambda tensor: tensor.to(device))
    accelerator = accelerator_named(name)
    sample(solver, denoise, noise, accelerator)  # warm-up: libraries are loaded and choose kernels
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        sample(solver, denoise, noise, accelerator)
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        waits = True
    else:
        waits = False
    finally:
        torch.cuda.set_sync_debug_mode("default")
    where = _places(lambda: sample(solver, denoise, noise, accelerator)) if waits else []
    yield verdict(f"{kind}, {name}: no synchronising call in the loop", not waits, ", ".join(where))


def _places(act: Callable[[], object]) -> list[str]:
    """Returns files and lines at which `act` waits for the device."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            act()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = (one for one in caught if "synchroniz" in str(one.message))
    return sorted({f"{'/'.join(one.filename.split('/')[-2:])}:{one.lineno}" for one in found})
