"""Compares an accelerated sample with the plain one and with naive baselines, at the same seeds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from sadaflow.solvers import Grid, GridSolver, Solver

from ..accelerators import Accelerator
from ..accelerators.default import refusal
from ..families.options import STEPS
from ..families.request import Request
from ..sampling.trace import Trace
from .fidelity import fidelity_fields

if TYPE_CHECKING:
    from ..pipeline.pipeline import Pipeline

Notify = Callable[[str], None]
WARM_UP_STEPS = 3
LOUDEST = 64  # the largest amplification of a difference


@dataclass(frozen=True)
class Row:
    """One way of sampling all prompts, each by itself. Every sequence has one entry per prompt.

    Attributes:
        name: Label of the row.
        images: Pictures (B, 3, H, W) in [0, 1], videos (B, frames, 3, H, W) in [0, 1], or of sounds log-mel
            spectrograms (B, 1, frames, mels).
        nfe: Network evaluations.
        modes: What was done at each step.
        seconds: Seconds of sampling.
        controller_seconds: Seconds of these that were spent deciding and estimating.
        psnr: PSNR in dB against the plain run, inf for equal images; of videos the mean over the frames.
        ssim: SSIM against the plain run; empty for sounds; of videos the mean over the frames.
        traces: Trajectories of one sample each, of the plain and the accelerated row, if they were asked for.
        worst_frame: Of videos, the lowest PSNR of a frame in dB; else empty.
    """

    name: str
    images: Tensor
    nfe: tuple[float, ...]
    modes: tuple[tuple[str, ...], ...]
    seconds: tuple[float, ...]
    controller_seconds: tuple[float, ...]
    psnr: tuple[float, ...]
    ssim: tuple[float, ...]
    traces: tuple[Trace, ...] = ()
    worst_frame: tuple[float, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The runs of `compare`.

    Attributes:
        prompts: The prompts.
        settings: What all runs share.
        accelerator: Name of the accelerator.
        rows: The plain run first, the accelerated one last, the baselines between them.
    """

    prompts: tuple[str, ...]
    settings: Request
    accelerator: str
    rows: tuple[Row, ...]

    @property
    def plain(self) -> Row:
        return self.rows[0]

    @property
    def accelerated(self) -> Row:
        return self.rows[-1]


@dataclass(frozen=True)
class _Run:
    images: Tensor
    nfe: float
    modes: tuple[str, ...]
    seconds: float
    controller_seconds: float
    trace: Trace | None


def compare(
    pipe: "Pipeline",
    prompts: Sequence[str],
    settings: Request | None = None,
    accelerator: str | Accelerator | None = "sada",
    notify: Notify = lambda message: None,
    *,
    trace: bool = False,
    beside: Sequence[str] = (),
) -> Comparison:
    """Sample every prompt without acceleration, with an accelerator, and with naive baselines.

    The baselines are fewer steps of the same solver at the accelerator's number of evaluations (rounded up, per
    prompt), on their own grid and on points of the full grid, and uniform skipping: every 2nd evaluation is made, x0 is
    extrapolated linearly in log-SNR. Uniform skipping is left out if the steps are too few for it. Prompts run one at a
    time, after an untimed short run, so that seconds can be compared.

    Args:
        pipe: The checkpoint.
        prompts: At least one prompt.
        settings: What all runs share; its prompts, accelerator and speedup are not used.
        accelerator: Name of an accelerator, or an accelerator. None repeats the plain run in its place and leaves out
            the runs of fewer steps.
        notify: Called with a line of text before each run.
        trace: Whether to keep the trajectories of the plain and the accelerated runs.
        beside: Names of accelerators that get a row of their own, if they fit the solver.

    Raises:
        ValueError: If there is no prompt, or if settings and accelerator do not fit the checkpoint.
    """
    if not prompts:
        raise ValueError("no prompt given; compare needs at least one")
    request = replace(settings or Request(), prompt=tuple(prompts), speedup=None).filled(steps=STEPS)
    if not (request.solver is None or isinstance(request.solver, str)):
        raise ValueError(f"solver={request.solver!r} has a fixed number of steps: name a solver to compare")
    steps = request.steps or STEPS
    name = _label(accelerator)
    sampler = _Sampler(pipe, request, notify)
    size: dict[str, Any] = {"height": request.height, "width": request.width, "num_frames": request.num_frames}
    whole = pipe.solver(request.solver, steps, request.grid, **size)
    part = whole if request.image is None else pipe.part(whole, request)
    skips = refusal("uniform", part) is None
    others: dict[str, list[_Run]] = {other: [] for other in beside if refusal(other, part) is None}
    sampler.run("warming up", 0, **_warm_up(request, steps, begins=part is not whole), accelerator=None)
    plain, fewer, coarse, uniform, accelerated = [], [], [], [], []
    counts = set()
    for index in range(len(prompts)):
        accelerated.append(sampler.run(name, index, trace, accelerator=accelerator))  # may refuse the settings
        plain.append(sampler.run("plain", index, trace, accelerator=None))
        if skips:
            uniform.append(sampler.run("every 2nd evaluation", index, accelerator="uniform"))
        for other, runs in others.items():
            runs.append(sampler.run(other, index, accelerator=other))
        if accelerator is None:
            continue
        count = _fewer_steps(steps, plain[-1], accelerated[-1])
        later: dict[str, Any] = (
            {} if request.start_step is None else {"start_step": request.start_step * count // steps}
        )
        fewer.append(sampler.run(f"{count} steps", index, steps=count, accelerator=None, **later))
        on_grid = pipe.solver(request.solver, count, coarser_grid(whole.grid, count), **size)
        fewer_points: dict[str, Any] = {"solver": on_grid, "grid": None, "accelerator": None, **later}
        coarse.append(sampler.run(f"{count} of {steps} steps", index, steps=count, **fewer_points))
        counts.add(count)
    named = {
        f"plain, {steps} steps": plain,
        f"{_span(counts)} steps": fewer,
        f"{_span(counts)} steps on the plain grid": coarse,
        "every 2nd evaluation": uniform,
        **others,
        name: accelerated,
    }
    rows = tuple(_row(label, runs, plain) for label, runs in named.items() if runs)
    return Comparison(request.prompts, request, name, rows)


@dataclass(frozen=True)
class _Sampler:
    """Samples one prompt at a time with the settings of a comparison."""

    pipe: "Pipeline"
    request: Request
    notify: Notify

    def run(self, message: str, index: int, trace: bool = False, **changed: Any) -> _Run:
        self.notify(f"{self.request.prompts[index]}: {message}")
        call = replace(self.request.sample(index), **changed).arguments()
        out = self.pipe(output="tensor", trace=trace, **call)
        stats = out.stats
        return _Run(out.images, stats.nfe[0], tuple(stats.modes[0]), stats.seconds, stats.controller_seconds, out.trace)


def _label(accelerator: str | Accelerator | None) -> str:
    """What the rows of an accelerator are called."""
    if accelerator is None or isinstance(accelerator, str):
        return accelerator or "none"
    speedup = getattr(accelerator, "speedup", None)
    return type(accelerator).__name__.lower() + (f" at {speedup:g}x" if speedup else "")


def amplification(difference: Tensor) -> int:
    """Returns the largest power of two, at most 64, by which |difference| can be multiplied without exceeding 1."""
    largest, factor = float(difference.abs().max()), 1
    while factor < LOUDEST and largest * factor * 2 <= 1:
        factor *= 2
    return factor


def evaluations(row: Row, index: int) -> str:
    """Returns the cost of a prompt in words: network evaluations and seconds."""
    return f"{row.nfe[index]:g} evaluations, {row.seconds[index]:.2f} s"


def coarser_grid(grid: Grid, steps: int) -> Grid:
    """Returns a subset of a grid: `steps` + 1 points at equal distances by index, with both ends."""
    points = torch.linspace(0, grid.n_steps, steps + 1, dtype=torch.float64).round().long()
    return replace(
        grid, t=grid.t[points], alpha=grid.alpha[points], sigma=grid.sigma[points], timestep=grid.timestep[points[:-1]]
    )


def coarser(solver: Solver, steps: int) -> Solver:
    """Returns a solver on the subset of its grid that `coarser_grid` chooses.

    Args:
        solver: The solver.
        steps: Number of steps that it shall take.

    Raises:
        ValueError: If it is not a dataclass, whose grid could be replaced.
    """
    if not is_dataclass(solver):
        raise ValueError(f"a {type(solver).__name__} cannot be put on another grid: make it a dataclass with grid")
    return replace(cast(GridSolver, solver), grid=coarser_grid(solver.grid, steps))


def _warm_up(request: Request, steps: int, *, begins: bool) -> dict[str, Any]:
    """The arguments of a short run; if it `begins` at a picture, of a whole one, of which few steps are taken."""
    if not begins:
        return {"steps": min(WARM_UP_STEPS, steps)}
    if request.start_step is not None:
        return {"start_step": max(request.start_step, steps - WARM_UP_STEPS)}
    return {"strength": min(request.effective_strength, max(WARM_UP_STEPS / steps, 1 / steps))}


def _fewer_steps(steps: int, plain: _Run, accelerated: _Run) -> int:
    """Returns the steps that cost as much as the accelerated run, rounded up. A step may take several evaluations."""
    return min(steps, max(1, math.ceil(steps * accelerated.nfe / plain.nfe)))


def _row(name: str, runs: Sequence[_Run], plain: Sequence[_Run]) -> Row:
    images = torch.cat([run.images for run in runs]).float().cpu()
    reference = torch.cat([run.images for run in plain]).float().cpu()
    return Row(
        name=name,
        images=images,
        nfe=tuple(run.nfe for run in runs),
        modes=tuple(run.modes for run in runs),
        seconds=tuple(run.seconds for run in runs),
        controller_seconds=tuple(run.controller_seconds for run in runs),
        traces=tuple(run.trace for run in runs if run.trace is not None),
        **fidelity_fields(images, reference),
    )


def _span(values: set[int]) -> str:
    return "-".join(str(value) for value in sorted({min(values, default=0), max(values, default=0)}))
