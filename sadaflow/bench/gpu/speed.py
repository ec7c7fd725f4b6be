"""Measures plain eager sampling of the full-size networks, beside Diffusers with the same tensors."""

import gc
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ...sampling.loop import sample
from ..run.memory import peak_memory
from ..speed.rounds import Round, ratio, spread
from .clock import Spans, TimedBackbone, seconds_of, synchronize
from .networks import Network, build
from .records import Record, Setup, attempted, check, goal, omitted, row, verdict
from .theirs import Theirs

OURS, THEIRS = "sadaflow", "diffusers"
STEPS = 10
_ROUNDS = 5
_DIFFERENCE = {torch.float32: 1e-4, torch.float16: 0.05, torch.bfloat16: 0.15}
"""Largest norm of the difference of both sides' final latents over the norm of theirs. Both round half precisions in
their own order."""

Side = Callable[[int, int, Spans | None], Tensor]
"""Latents of (batch, steps); the backbone's calls are added to the spans, if given."""


def run(name: str, setup: Setup) -> Iterator[Record]:
    """Measures batches of 1 and 4: milliseconds per evaluation, seconds of 10 steps, peak memory, and ratios."""
    network = build(name, setup.device, small=setup.small)
    sides: dict[str, Side] = {OURS: partial(_ours, network)}
    try:
        theirs = Theirs(network)
        sides[THEIRS] = theirs.run
    except Exception as error:  # noqa: BLE001 - measure our own numbers in any case
        yield omitted(f"{name}: Diffusers", f"{type(error).__name__}: {error}")
    for batch in (1, 4):
        yield from attempted(f"{name}, batch {batch}", setup, partial(_batch, network, sides, batch, setup))
        gc.collect()


def _ours(network: Network, batch: int, steps: int, spans: Spans | None = None) -> Tensor:
    solver, backbone = network.solver(steps), network.backbone
    denoise = network.denoiser(solver, batch, None if spans is None else TimedBackbone(backbone, spans))
    return sample(solver, denoise, network.noise(batch)).x


@torch.no_grad()
def _batch(network: Network, sides: dict[str, Side], batch: int, setup: Setup) -> Iterator[Record]:
    name, steps = network.name, 3 if setup.small else STEPS
    latents = {side: act(batch, 2, None) for side, act in sides.items()}  # warm-up: libraries choose kernels
    finite = bool(torch.isfinite(latents[OURS]).all())
    yield verdict(f"{name}, batch {batch}: finite latents of random weights in {network.dtype}", finite)
    if THEIRS in sides:
        ours, theirs = latents[OURS].double(), latents[THEIRS].double()
        difference = float((ours - theirs).norm() / theirs.norm())
        yield check(f"{name}, batch {batch}: as Diffusers, 2 steps", difference, _DIFFERENCE[network.dtype])
    held = {side: peak_memory(partial(act, batch, 1, None), setup.device) for side, act in sides.items()}
    rounds = _rounds(sides, batch, steps, setup)
    for side in sides:
        loop, evaluation = spread(rounds, side, "loop"), spread(rounds, side, "evaluation")
        yield row(
            f"{name}, {network.dtype}, {'x'.join(map(str, network.shape))} latents",
            side=side,
            batch=batch,
            **{
                "ms an evaluation": evaluation.median,
                f"seconds of {steps} steps": loop.median,
                "least": loop.least,
                "most": loop.most,
                "ms outside the network, a step": 1e3 * loop.median / steps - evaluation.median,
                "weights, GB": network.bytes / 1e9,
                "peak beyond weights, GB": held[side] / 1e9,
                "rounds": len(rounds),
            },
        )
    if THEIRS in sides:
        for number, what in (("loop", f"loop of {steps} steps"), ("evaluation", "evaluation")):
            found = ratio(rounds, OURS, THEIRS, number)
            yield goal(f"{name}, batch {batch}: {what}, of Diffusers' eager time", found, 0.9)


def _rounds(sides: dict[str, Side], batch: int, steps: int, setup: Setup) -> list[Round]:
    """Runs interleaved rounds, each beginning with another side: five, or as many as time allows, at least one."""
    names, made = list(sides), list[Round]()
    longest = 0.0
    for number in range(2 if setup.small else _ROUNDS):
        turn = number % len(names)
        numbers: dict[str, Any] = {}
        for side in (*names[turn:], *names[:turn]):
            spans = Spans(setup.device)
            seconds = seconds_of(partial(sides[side], batch, steps, spans), setup.device)
            numbers[side] = {"loop": seconds, "evaluation": median(spans.milliseconds())}
        made.append({name: numbers[name] for name in names})
        longest = max(longest, sum(one["loop"] for one in numbers.values()))
        if setup.left() < (3 if batch == 1 else 1) * 2 * longest:  # batch 4 comes later and takes longer
            break
    synchronize(setup.device)
    return made
