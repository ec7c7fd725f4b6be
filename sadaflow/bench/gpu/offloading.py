"""Flux.1 dev's transformer in less memory: whole, one network at a time, streamed, in eight bits."""

import gc
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial

import torch

from ...offload import ModelOffload
from ...quantization import Quantize
from ...sampling import sample
from ...streaming import Stream, host_weights
from .clock import seconds_of
from .networks import Network, build
from .records import Record, Setup, attempted, goal, omitted, row

_STEPS = 4
_LIMIT = 24e9


def run(setup: Setup) -> Iterator[Record]:
    """Peak of the device's memory and seconds, of 4 steps at batch 1, each way on a network of its own."""
    ways: dict[str, Callable[[Network], None]] = {
        "whole": lambda network: None,
        "eight bits": _quantized,
        "model": partial(_offloaded, setup),
        "stream": partial(_streamed, setup),
    }
    for name, way in ways.items():
        if name == "eight bits" and importlib.util.find_spec("torchao") is None:
            yield omitted("eight bits", "torchao is not there")
            continue
        yield from attempted(name, setup, partial(_measured, name, way, setup))
        gc.collect()
        if setup.cuda:
            torch.cuda.empty_cache()


def _measured(name: str, way: Callable[[Network], None], setup: Setup) -> Iterator[Record]:
    network = build("flux", setup.device, small=setup.small)
    prepared = seconds_of(lambda: way(network), setup.device)
    gc.collect()
    if setup.cuda:
        torch.cuda.empty_cache()
    steps = 2 if setup.small else _STEPS
    solver = network.solver(steps)

    def loop() -> None:
        sample(solver, network.denoiser(solver, 1), network.noise(1))

    first = seconds_of(loop, setup.device)  # what comes ahead is known from the second on
    if setup.cuda:
        torch.cuda.reset_peak_memory_stats(setup.device)
    seconds = seconds_of(loop, setup.device)
    peak = torch.cuda.max_memory_allocated(setup.device) if setup.cuda else None
    yield row(
        f"Flux.1 dev's transformer, {steps} steps, batch 1",
        weights=name,
        **{
            "peak, GB": None if peak is None else peak / 1e9,
            "seconds": seconds,
            "first loop, s": first,
            "seconds to arrange": prepared,
        },
    )
    if name == "eight bits" and peak is not None:
        yield goal("Flux.1 dev's transformer in eight bits, GB at most", peak / 1e9, _LIMIT / 1e9)


def _quantized(network: Network) -> None:
    Quantize.named("int8").take({"transformer": network.backbone})


def _offloaded(setup: Setup, network: Network) -> None:
    network.backbone.to("cpu")
    ModelOffload(setup.device).take({"transformer": network.backbone})


def _streamed(setup: Setup, network: Network) -> None:
    network.backbone.to("cpu")
    small = 2**12 if setup.small else 2**20
    Stream(setup.device, small=small).add(network.backbone, host_weights(network.backbone, pin=setup.cuda))
