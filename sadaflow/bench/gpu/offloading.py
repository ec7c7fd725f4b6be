"""Measures Flux.1 dev with less memory: T5 and the transformer resident, one at a time, streamed, in eight bits."""

import gc
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from ...loading.transformers_package import transformers_module
from ...placement.offload import ModelOffload
from ...placement.quantization import Quantize
from ...placement.streaming import Stream, host_weights
from ...sampling.loop import sample
from ..speed.architectures import architecture
from .clock import seconds_of
from .networks import build, fill_randomly
from .records import Record, Setup, attempted, goal, omitted, row

_STEPS = 4
_LIMIT = 24e9


def run(setup: Setup) -> Iterator[Record]:
    """Measures peak memory of the device and seconds of 4 steps at batch 1, with a new network each time."""
    ways: dict[str, Callable[[Mapping[str, nn.Module]], None]] = {
        "whole": lambda networks: None,
        "eight bits": _quantized,
        "stream": partial(_streamed, setup),
        "model": partial(_offloaded, setup),
    }
    for name, way in ways.items():
        if name == "eight bits" and importlib.util.find_spec("torchao") is None:
            yield omitted("eight bits", "torchao is not there")
            continue
        yield from attempted(name, setup, partial(_measured, name, way, setup))
        gc.collect()
        if setup.cuda:
            torch.cuda.empty_cache()


def _measured(name: str, way: Callable[[Mapping[str, nn.Module]], None], setup: Setup) -> Iterator[Record]:
    network = build("flux", setup.device, small=setup.small)
    text = _text_encoder(setup, network.dtype)
    prepared = seconds_of(lambda: way({"text_encoder_2": text, "transformer": network.backbone}), setup.device)
    gc.collect()
    if setup.cuda:
        torch.cuda.empty_cache()
    steps = 2 if setup.small else _STEPS
    solver = network.solver(steps)
    ids = torch.ones(1, network.tokens, dtype=torch.long, device=setup.device)

    def call() -> None:
        with torch.no_grad():
            text(input_ids=ids)
            sample(solver, network.denoiser(solver, 1), network.noise(1))

    first = seconds_of(call, setup.device)  # the order of layers is known from the second evaluation on
    if setup.cuda:
        torch.cuda.reset_peak_memory_stats(setup.device)
    seconds = seconds_of(call, setup.device)
    peak = torch.cuda.max_memory_allocated(setup.device) if setup.cuda else None
    yield row(
        f"T5 and {steps} steps of the transformer, batch 1",
        weights=name,
        **{
            "peak, GB": None if peak is None else peak / 1e9,
            "seconds": seconds,
            "first call, s": first,
            "seconds to arrange": prepared,
        },
    )
    if name == "eight bits" and peak is not None:
        yield goal("Flux.1 dev, T5 and transformer in eight bits: GB", peak / 1e9, _LIMIT / 1e9)


def _text_encoder(setup: Setup, dtype: torch.dtype) -> Any:
    """Builds T5 XXL's encoder, or a small one, with random weights on the device."""
    transformers = transformers_module()
    config = dict(architecture("random-flux/16" if setup.small else "random-flux").text["text_encoder_2"])
    if not setup.small:
        config |= {"num_layers": 24, "d_ff": 10240}
    with torch.device("meta"):
        encoder = transformers.T5EncoderModel(transformers.T5Config(**config, vocab_size=32128))
    encoder = encoder.to(dtype).to_empty(device=setup.device)
    encoder.set_input_embeddings(encoder.shared)  # tied weights were copied
    fill_randomly(encoder)
    return encoder


def _quantized(networks: Mapping[str, nn.Module]) -> None:
    Quantize.named("int8").take(networks)


def _offloaded(setup: Setup, networks: Mapping[str, nn.Module]) -> None:
    for network in networks.values():
        network.to("cpu")
    ModelOffload(setup.device).take(networks)


def _streamed(setup: Setup, networks: Mapping[str, nn.Module]) -> None:
    stream = Stream(setup.device, small=2**12 if setup.small else 2**20)
    for network in networks.values():
        network.to("cpu")
        stream.add(network, host_weights(network, pin=setup.cuda))
