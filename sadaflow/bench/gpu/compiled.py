"""Measures SDXL and Flux compiled by regions, as a whole and in CUDA graphs, against the same network run eagerly."""

import gc
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch

from sadaflow.models import call_through

from ...pipeline.compilation import compile_backbone
from .clock import median_milliseconds, seconds_of
from .networks import build
from .records import Record, Setup, attempted, check, row

_TOLERANCE = 0.1
"""Of half precisions: compiled kernels round after several operators, eager ones after each."""


def run(setup: Setup) -> Iterator[Record]:
    """Measures seconds to compile and milliseconds per evaluation at batch 1. On a CPU networks are only traced."""
    ways: dict[str, Mapping[str, Any]] = {
        "regions": {"whole": False},
        "one piece": {"whole": True},
        "CUDA graphs": {"whole": True, "mode": "reduce-overhead"},
    }
    if not setup.cuda:
        ways = {"regions": {"whole": False, "backend": "eager"}, "one piece": {"whole": True, "backend": "eager"}}
    for way, options in ways.items():
        for name in ("flux",) if setup.small else ("flux", "sdxl"):
            measure = partial(_compiled, name, way, dict(options), setup)
            yield from attempted(f"{name}, {way}", setup, measure)
            torch.compiler.reset()
            gc.collect()
            if setup.cuda:
                torch.cuda.empty_cache()


@torch.no_grad()
def _compiled(name: str, way: str, options: dict[str, Any], setup: Setup) -> Iterator[Record]:
    network = build(name, setup.device, small=setup.small)
    denoise, x = network.denoiser(network.solver(10), 1), network.noise(1)
    act = partial(denoise.evaluate, x, 1, range(1), call_through)
    times = 3 if setup.small else 10
    eager, expected = median_milliseconds(act, setup.device, times), act().clone()
    compile_backbone(network.backbone, options.pop("whole"), False, options)
    seconds = seconds_of(act, setup.device)
    milliseconds = median_milliseconds(act, setup.device, times, warm_up=3)
    difference = float((act() - expected).norm() / expected.norm())
    yield row(
        "compiled, batch 1",
        network=name,
        how=way,
        **{
            "eager, ms": eager,
            "compiled, ms": milliseconds,
            "ratio": milliseconds / eager,
            "first evaluation, s": seconds,
            "difference": difference,
        },
    )
    yield check(f"{name}, {way}: as eager", difference, _TOLERANCE)
