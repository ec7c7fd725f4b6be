"""Compares the embedded checkpoints on the device with the CPU: solvers, accelerators, half precision, streams."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from sadaflow.solvers import SOLVERS

from ...accelerators.registry import ACCELERATORS
from ...pipeline.pipeline import Pipeline
from .records import Record, Setup, attempted, check, omitted, verdict

TOLERANCES = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.15}
"""Largest norm of the difference of final latents from the CPU's in float32, over the norm of those. Float32 differs by
the order of sums, which a trajectory amplifies; half precisions have 3 and 2 decimal digits."""

_MODELS = ("tiny-sd", "tiny-flux")
_FEW_SOLVERS, _FEW_ACCELERATORS = ("dpmpp2m-sde",), ("sada", "teacache")
_INSIDE = {"deepcache": "tiny-sd", "first-block": "tiny-flux", "taylorseer": "tiny-flux", "teacache": "tiny-flux"}
_SMALL_PICTURE = {"height": 64, "width": 64}
_PROMPTS, _SEEDS = ["red apple", "blue heart"], [3, 4]


def run(setup: Setup) -> Iterator[Record]:
    """Compares pictures of the device and the CPU, accelerators first, whose decisions are sensitive to rounding."""
    with exactly():
        yield from _comparisons(setup)


@contextmanager
def exactly() -> Iterator[None]:
    """Computes float32 products and convolutions in full precision, without TF32."""
    backends: Any = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def _comparisons(setup: Setup) -> Iterator[Record]:
    most, steps = (14, 4) if setup.small else (16, 16)  # SADA needs at least 13
    pipes = _Pipelines(setup)
    accelerators = _FEW_ACCELERATORS if setup.small else tuple(ACCELERATORS)
    solvers = _FEW_SOLVERS if setup.small else tuple(SOLVERS)
    halves = (torch.bfloat16,) if setup.small else (torch.bfloat16, torch.float16)
    work: list[tuple[str, Callable[[], Iterator[Record]]]] = []
    for model in _MODELS:
        for name in accelerators:
            if _INSIDE.get(name, model) == model and not (name == "guidance" and model == "tiny-flux"):
                work.append((f"{model}, {name}", partial(pipes.accelerated, model, name, most)))
        for dtype in halves:
            work.append((f"{model}, {dtype}", partial(pipes.half, model, dtype, steps)))
    work.append(("tiny-controlnet", partial(pipes.controlled, steps)))
    work.append(("a stream of its own", partial(pipes.on_a_stream, steps)))
    work.append(("two threads", partial(pipes.in_threads, steps)))
    for model in _MODELS:
        for name in solvers:
            work.append((f"{model}, {name}", partial(pipes.solved, model, name, steps)))
    for number, (what, measure) in enumerate(work):
        if setup.left() < 2:
            yield omitted(f"{len(work) - number} comparisons, from {what!r} on", "the time of this part is over")
            return
        yield from attempted(what, setup, measure)


class _Pipelines:
    """Pipelines of the embedded checkpoints, each loaded once, and comparisons between two of them."""

    def __init__(self, setup: Setup) -> None:
        self.device, self.cuda = setup.device, setup.cuda
        self.size = _SMALL_PICTURE if setup.small else {}
        self.cpu = torch.device("cpu")
        self.load = cache(self._load)

    def _load(self, model: str, device: torch.device, dtype: torch.dtype, controlnet: str | None = None) -> Pipeline:
        return Pipeline.from_pretrained(model, device=device, dtype=dtype, controlnet=controlnet)

    def made(self, pipe: Pipeline, steps: int, **call: Any) -> Any:
        further = {"max_sequence_length": 16} if pipe.name == "tiny-flux" else {}
        call = {**self.size, **further, **call}
        return pipe(_PROMPTS, steps=steps, seed=_SEEDS, output="latent", progress=False, **call)

    def both(self, model: str, steps: int, **call: Any) -> tuple[Any, Any]:
        here = self.load(model, self.device, torch.float32)
        return self.made(here, steps, **call), self.made(self.load(model, self.cpu, torch.float32), steps, **call)

    def accelerated(self, model: str, name: str, steps: int) -> Iterator[Record]:
        ours, reference = self.both(model, steps, accelerator=name)
        same = ours.stats.modes == reference.stats.modes
        yield verdict(f"{model}, {name}: the CPU's decisions", same, "" if same else _first_difference(ours, reference))
        if same:
            yield _compared(f"{model}, {name}, float32", ours.latents, reference.latents, torch.float32)

    def solved(self, model: str, name: str, steps: int) -> Iterator[Record]:
        try:
            ours, reference = self.both(model, steps, solver=name, **_SMALL_PICTURE)
        except ValueError as error:
            yield omitted(f"{model}, {name}", str(error))
            return
        yield _compared(f"{model}, {name}, float32", ours.latents, reference.latents, torch.float32)

    def half(self, model: str, dtype: torch.dtype, steps: int) -> Iterator[Record]:
        ours = self.made(self.load(model, self.device, dtype), steps)
        reference = self.made(self.load(model, self.cpu, torch.float32), steps)
        yield _compared(f"{model}, {str(dtype).removeprefix('torch.')}", ours.latents, reference.latents, dtype)

    def controlled(self, steps: int) -> Iterator[Record]:
        control = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
        call: dict[str, Any] = {"control": control, **_SMALL_PICTURE}
        ours, reference = (
            self.made(self.load("tiny-sd", device, torch.float32, "tiny-controlnet"), steps, **call)
            for device in (self.device, self.cpu)
        )
        yield _compared("tiny-controlnet, float32", ours.latents, reference.latents, torch.float32)

    def on_a_stream(self, steps: int) -> Iterator[Record]:
        if not self.cuda:
            yield omitted("a stream of its own", "a CPU has no streams")
            return
        pipe = self.load("tiny-sd", self.device, torch.float32)
        for accelerator in (None, "auto", "sada"):
            before = self.made(pipe, steps, accelerator=accelerator).latents
            torch.cuda.synchronize()
            with torch.cuda.stream(torch.cuda.Stream()):
                after = self.made(pipe, steps, accelerator=accelerator).latents
            torch.cuda.synchronize()
            yield verdict(f"a stream of its own, {accelerator}: the same bits", torch.equal(before, after))

    def in_threads(self, steps: int) -> Iterator[Record]:
        if not self.cuda:
            yield omitted("two threads, each on a stream of its own", "a CPU has no streams")
            return
        pipe = self.load("tiny-flux", self.device, torch.float32)
        reference, found = self.made(pipe, steps, accelerator="sada").latents, dict[int, Tensor]()
        torch.cuda.synchronize()

        def work(number: int) -> None:
            with torch.cuda.stream(torch.cuda.Stream()):
                found[number] = self.made(pipe, steps, accelerator="sada").latents
                torch.cuda.current_stream().synchronize()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        same = len(found) == 2 and all(torch.equal(one, reference) for one in found.values())
        yield verdict("two threads, each on a stream of its own: the same bits", same)


def _compared(name: str, ours: Tensor, reference: Tensor, dtype: torch.dtype) -> Record:
    ours, reference = ours.double().cpu(), reference.double().cpu()
    return check(name, float((ours - reference).norm() / reference.norm()), TOLERANCES[dtype])


def _first_difference(ours: Any, reference: Any) -> str:
    for sample, (one, other) in enumerate(zip(ours.stats.modes, reference.stats.modes, strict=True)):
        for step, (mode, expected) in enumerate(zip(one, other, strict=True)):
            if mode != expected:
                return f"sample {sample}, step {step}: {mode}, on the CPU {expected}"
    return "different numbers of steps"
