"""Measures the speed-up of accelerators at full size, with decisions recorded on tiny-sd, and their own cost."""

import gc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median

import torch
from torch import Tensor

from sadaflow.solvers import Solver, from_scheduler_config

from ...accelerators import SADA, Accelerator, Auto, Mode
from ...pipeline.pipeline import Pipeline
from ...sampling.denoiser import Denoise
from ...sampling.loop import sample
from ...sampling.results import Stats
from ..speed.architectures import architecture
from ..speed.forced import Forced
from .networks import Network, build
from .profiled import profiled
from .records import Record, Setup, attempted, goal, omitted, row

ACCELERATORS: dict[str, Accelerator] = {"auto": Auto(), "sada": SADA(tokens=False)}
_STEPS, _FLUX_STEPS, _SMALL_STEPS = 50, 20, 14
_BATCHES = (1, 4, 16)
_SHAPE = (4, 128, 128)  # SDXL's latents at 1024 pixels
_TAKEN_MS = 30.0
"""Milliseconds of a guided evaluation of SDXL where none was measured: 12 TFLOP at 400 TFLOP/s."""


def run(setup: Setup) -> Iterator[Record]:
    """Measures accelerator and solver at SDXL's size first (seconds), then the recorded decisions on each network."""
    yield from attempted("controller and solver", setup, partial(_controllers, setup))
    for name in ("sdxl", "flux") if setup.small else ("sdxl", "flux", "sd21"):
        yield from attempted(f"recorded decisions on {name}", setup, partial(_replayed, name, setup))
        gc.collect()
        if setup.cuda:
            torch.cuda.empty_cache()


def recorded(accelerator: Accelerator, batch: int, steps: int, device: torch.device) -> Forced:
    """Records the decisions of an accelerator for `batch` prompts on tiny-sd."""
    pipe = Pipeline.from_pretrained("tiny-sd", device=device)
    prompts = [f"red apple {number}" for number in range(batch)]
    call = {"steps": steps, "solver": "dpmpp2m", "seed": list(range(batch)), "accelerator": accelerator}
    modes = pipe(prompts, output="latent", progress=False, **call).stats.modes  # type: ignore[arg-type]
    return Forced([[Mode(mode) for mode in sample] for sample in modes])


def _replayed(name: str, setup: Setup) -> Iterator[Record]:
    steps = _SMALL_STEPS if setup.small else _FLUX_STEPS if name == "flux" else _STEPS
    network = build(name, setup.device, small=setup.small)
    longest = 0.0
    for batch in (1,) if setup.small else (1, 4):
        if setup.left() < 3 * longest:
            yield omitted(f"recorded decisions on {name}, batch {batch}", "the time of this part is over")
            return
        patterns = {label: recorded(one, batch, steps, setup.device) for label, one in ACCELERATORS.items()}
        _loop(network, batch, 2, None)  # libraries are loaded and kernels chosen
        plain = _loop(network, batch, steps, None)
        longest = 4 * plain.seconds
        for label, pattern in patterns.items():
            fast = _loop(network, batch, steps, pattern)
            share = sum(fast.nfe) / sum(plain.nfe)
            efficiency = plain.seconds / fast.seconds * share
            # Samples of a batch skip at different steps, and an evaluation of fewer samples costs more than its share.
            yield row(
                f"recorded decisions, {steps} steps",
                network=name,
                batch=batch,
                accelerator=label,
                nfe=sum(fast.nfe) / batch,
                **{"plain, s": plain.seconds, "accelerated, s": fast.seconds},
                efficiency=efficiency,
                **{"controller, ms a step": 1e3 * fast.controller_seconds / steps},
            )
            if batch == 1:
                text = f"{name}, {label}: efficiency (speed-up over evaluations saved)"
                yield goal(text, efficiency, 0.97, at_least=True)


def _loop(network: Network, batch: int, steps: int, accelerator: Accelerator | None) -> Stats:
    solver = network.solver(steps)
    return sample(solver, network.denoiser(solver, batch), network.noise(batch), accelerator).stats


def _controllers(setup: Setup) -> Iterator[Record]:
    """Measures milliseconds and launches per step of the accelerators, with a linear denoiser instead of a network."""
    steps = _SMALL_STEPS if setup.small else _STEPS
    solver = from_scheduler_config(architecture("random-sdxl").scheduler, steps, solver="dpmpp2m").solver
    for batch in _BATCHES[:1] if setup.small else _BATCHES:
        noise = torch.randn(batch, *_SHAPE, generator=torch.Generator().manual_seed(0)).to(setup.device)
        denoise = _linear(solver, setup.device)
        for label, accelerator in {"none": None, **ACCELERATORS}.items():
            yield from _controller(setup, label, partial(sample, solver, denoise, noise, accelerator), steps, batch)


def _controller(setup: Setup, label: str, act: Callable[[], object], steps: int, batch: int) -> Iterator[Record]:
    act()
    stats = [act().stats for _ in range(3)]  # type: ignore[attr-defined]
    own = median(1e3 * one.controller_seconds / steps for one in stats)
    rest = median(1e3 * (one.seconds - one.controller_seconds - one.network_seconds) / steps for one in stats)
    found = profiled(act, setup.device)
    yield row(
        f"accelerator, solver and loop on {'x'.join(map(str, _SHAPE))} latents",
        accelerator=label,
        batch=batch,
        nfe=stats[0].nfe[0],
        **{
            "accelerator, ms a step": own,
            "solver and loop, ms a step": rest,
            "launches a step, one of them the denoiser's" if setup.cuda else "operators a step": found.launches / steps,
            "waits a step": found.waits / steps,
        },
    )
    if batch == 1 and label != "none":
        one = evaluation_ms(setup.earlier)
        text = f"{label}: accelerator, solver and loop over an evaluation of SDXL ({one:.3g} ms)"
        yield goal(text, (own + rest) / one, 0.01)


def evaluation_ms(earlier: Sequence[Record]) -> float:
    """Returns milliseconds of an SDXL evaluation at batch 1, as measured in this run or else estimated."""
    rows = [record["columns"] for record in earlier if record.get("part") == "speed sdxl" and "table" in record]
    found = [one["ms an evaluation"] for one in rows if one["side"] == "sadaflow" and one["batch"] == 1]
    return float(found[0]) if found else _TAKEN_MS


def _linear(solver: Solver, device: torch.device) -> Denoise:
    """Returns the denoiser of independent normal variables whose deviations fall over columns: one launch per call."""
    variance = torch.logspace(0, -6, _SHAPE[-1], base=2)
    table = [node.alpha * variance / (node.alpha**2 * variance + node.sigma**2) for node in solver.nodes]
    factors: Sequence[Tensor] = torch.stack(table).to(device).unbind()

    def denoise(x: Tensor, step: int) -> Tensor:
        return x * factors[step]

    return denoise
