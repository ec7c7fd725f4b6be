"""Measures what `Auto(speedup=...)` costs and keeps, beside its rivals at the same cost, on an embedded checkpoint.

    python docs/scripts/measure_speedups.py tiny-sd --solver dpmpp2m --steps 50 --seeds 4 --out speedups.json

Prompts and seeds are those of the suite fronts-tiny-sd, on which nothing is tuned or calibrated. A table is printed,
and every sample's evaluations and PSNR against the plain run are written to the file. Rows that the file already holds
are not measured again. mixture-vp and mixture-flow are a Gaussian mixture with its exact denoiser, calibrated on other
seeds; there the PSNR is the signal-to-error ratio of the samples.
"""

import argparse
import json
import math
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sadaflow import SADA, Auto, Pipeline, Uniform
from sadaflow.accelerators import Accelerator, Schedule
from sadaflow.accelerators.auto.calibration import Calibration
from sadaflow.accelerators.auto.plans import Fork
from sadaflow.accelerators.sada.released import ReleasedSADA
from sadaflow.bench.reporting.fronts import decibels
from sadaflow.bench.run.sweep import relative_error
from sadaflow.bench.suite.mixture import ANALYTIC, SHAPE, Exact, MixtureSubject
from sadaflow.metrics.fidelity import psnr
from sadaflow.pipeline.inputs import initial_noise
from sadaflow.sampling.auto_calibration import Effort, calibrate
from sadaflow.solvers import Solver, State

SPEEDUPS = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
BATCH = 10


@dataclass(frozen=True)
class Way:
    """One way of sampling: a solver, its steps, an accelerator, and whether the calibrations are used."""

    name: str
    solver: str
    steps: int
    accelerator: Accelerator | None
    calibrated: bool = True


class Unreplayed(Auto):
    """`Auto` without the corrector: skipped steps keep their extrapolated x0."""

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> Any:
        run = super().begin(solver, shape, seams=seams)
        run.replay = _Nothing()  # type: ignore[assignment]
        return run


class _Nothing:
    def corrected(self, state: State, *_: Any) -> State:
        return state


def ways(solver: str, steps: int, measured: Calibration | None) -> list[Way]:
    """The plain run, `auto` under eight speed-ups and under their tolerances, and its rivals."""
    found = [Way("plain", solver, steps, None)]
    found += [Way(f"auto at {speedup:g}x", solver, steps, Auto(speedup=speedup)) for speedup in SPEEDUPS]
    if measured is not None:
        reached = (speedup for speedup in SPEEDUPS if steps / speedup >= measured.evaluations[-1])
        fixed = ((speedup, Auto(tolerance=measured.tolerance_for(steps / speedup))) for speedup in reached)
        found += [Way(f"front, {speedup:g}x", solver, steps, accelerator) for speedup, accelerator in fixed]
        found += parts(solver, steps, measured)
    found += [
        Way("ablation at 2x: no replay", solver, steps, Unreplayed(speedup=2.0)),
        Way("ablation at 2x: one memory, 0.3", solver, steps, Auto(speedup=2.0, memories=(0.3,))),
        Way("ablation at 2x: one memory, 10", solver, steps, Auto(speedup=2.0, memories=(10.0,))),
        Way("ablation at 2x: no calibration", solver, steps, Auto(speedup=2.0), calibrated=False),
        Way("ablation at 3x: no calibration", solver, steps, Auto(speedup=3.0), calibrated=False),
    ]
    found += [
        Way(f"{math.ceil(steps / speedup)} steps of {rival}", rival, math.ceil(steps / speedup), None)
        for speedup in (2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
        for rival in dict.fromkeys((solver, "unipc", "deis"))
    ]
    found += [
        Way(f"every {every}{', replayed' if correct else ''}", solver, steps, Uniform(every=every, correct=correct))
        for every in (2, 3)
        for correct in (False, True)
    ]
    found += [Way("sada", solver, steps, SADA()), Way("sada-released", solver, steps, ReleasedSADA())]
    return found


def parts(solver: str, steps: int, measured: Calibration) -> Iterator[Way]:
    """Sampling at 2x, 4x and 8x with each part switched off or exchanged: plans, fork, steps, predictor, replay."""
    from_noise = math.isinf(measured.log_snr[0])  # which has no log-SNR: a schedule needs the second step too
    for speedup in (2.0, 4.0, 8.0):
        at = f"part at {speedup:g}x: "
        fork = min(measured.forks, key=lambda fork: abs(math.log(fork.middle * speedup / steps)))
        middle = fork.plans[len(fork.plans) // 2]
        count = len(middle.nodes) if speedup > 2 else steps // 2
        even = tuple(round(place * steps / count) for place in range(count))
        if speedup > 2:
            unforked = replace(measured, forks=(Fork(fork.shared, (middle,), fork.usual, fork.deviation),))
            without = Auto(speedup=speedup, calibration=replace(measured, forks=()))
            yield Way(at + "without plans", solver, steps, without)
            yield Way(at + "one plan, no fork", solver, steps, Auto(budget=count, calibration=unforked))
        kept = {"even steps": even} | ({"the plan's steps": middle.nodes} if speedup > 2 else {})
        for name, chosen in kept.items():
            nodes = tuple(sorted({*chosen, 1})) if from_noise else chosen
            for predictor in ("kriging", "linear", "held"):
                for correct in (True, False):
                    rule = f"{name}, {predictor}{', replayed' * correct}"
                    yield Way(at + rule, solver, steps, Schedule(nodes, predictor, "x0", correct))
            for variable in ("flow",) if from_noise else ("eps", "v"):
                accelerator = Schedule(nodes, "kriging", variable, True)
                yield Way(f"{at}{name}, kriging, replayed, of {variable}", solver, steps, accelerator)


def sampled(
    pipe: Pipeline, way: Way, prompts: list[str], seeds: list[int], guidance: float | None
) -> tuple[Any, list[float]]:
    """Pictures (B, 3, H, W) and the evaluations of every sample."""
    pictures, nfe, held = [], [], pipe.calibrations
    pipe.calibrations = held if way.calibrated else replace(held, held=())
    try:
        for first in range(0, len(prompts), BATCH):
            out = pipe(
                prompts[first : first + BATCH], seed=seeds[first : first + BATCH], solver=way.solver, steps=way.steps,
                guidance=guidance, accelerator=way.accelerator, output="tensor", progress=False,
            )  # fmt: skip
            pictures.append(out.images.float())
            nfe += out.stats.nfe
    finally:  # a way that is refused must not leave the others without
        pipe.calibrations = held
    return torch.cat(pictures), nfe


def calibrated_mixture(subject: MixtureSubject, solver: str, steps: int, planned: int = 64) -> MixtureSubject:
    """The mixture with a calibration of `auto`, whose plans are fitted to `planned` samples."""
    nodes = subject.solver(solver, steps)

    def batches(count: int) -> Iterator[tuple[Exact, torch.Tensor]]:
        yield Exact(nodes), initial_noise(SHAPE, range(20_000, 20_000 + count)).double()

    found = calibrate(nodes, batches, weights=subject.fingerprint, effort=Effort(planned=planned))
    return replace(subject, calibrations=(found,))


def sampled_mixture(subject: MixtureSubject, way: Way, seeds: list[int]) -> tuple[Any, list[float]]:
    """Samples (B, ...) of the mixture and the evaluations of each."""
    used = subject if way.calibrated else replace(subject, calibrations=())
    made = used.run([""] * len(seeds), seeds, None, used.solver(way.solver, way.steps), way.accelerator)
    return made.latents, made.stats.nfe


def line(name: str, nfe: list[float], quality: list[float]) -> str:
    """A row of the table."""
    shown = [f"{np.mean(quality):.1f}", f"{np.percentile(quality, 5):.1f}", f"{min(quality):.1f}"]
    return f"| {name} | {np.mean(nfe):.2f} | {' | '.join(shown)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--solver", default="dpmpp2m")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", default="", help="regular expression: only rows that begin so")
    parser.add_argument("--planned", type=int, default=64, help="of mixtures: samples that plans are fitted to")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    analytic = options.model in ANALYTIC
    name = "mixture" if analytic else options.model
    suite = tomllib.loads((files("sadaflow") / "bench/suites" / f"fronts-{name}.toml").read_text("utf-8"))
    captions = [""] * 20 if analytic else suite["prompts"]
    prompts = [prompt for _ in range(options.seeds) for prompt in captions]
    seeds = list(range(len(prompts))) if analytic else [seed for seed in range(options.seeds) for _ in captions]
    subject = None
    if analytic:
        subject = calibrated_mixture(ANALYTIC[options.model](), options.solver, options.steps, options.planned)
    pipe = None if analytic else Pipeline.from_pretrained(options.model)
    rows = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    plain = None
    print(f"{options.model}, {options.solver}, {options.steps} steps, {len(prompts)} samples")
    print("| | evaluations | PSNR mean | 5th percentile | worst |\n|---|---|---|---|---|")
    held = subject.calibrations if subject is not None else pipe.calibrations.held
    solver = (subject or pipe).solver(options.solver, options.steps)
    fitting = (one for one in held if one.misfit(solver) is None)
    for way in ways(options.solver, options.steps, next(fitting, None)):
        if way.name != "plain" and (way.name in rows or not re.match(options.only, way.name)):
            continue
        try:
            if subject is not None:
                pictures, nfe = sampled_mixture(subject, way, seeds)
            else:
                pictures, nfe = sampled(pipe, way, prompts, seeds, suite.get("guidance"))
        except ValueError as refusal:
            print(f"| {way.name} | {refusal} | | | |", flush=True)
            continue
        if plain is None:
            plain = pictures
            continue
        if analytic:
            quality = [decibels(error) for error in relative_error(pictures, plain)]
        else:
            quality = psnr(pictures, plain).tolist()
        rows[way.name] = {"nfe": nfe, "psnr": quality}
        print(line(way.name, nfe, rows[way.name]["psnr"]), flush=True)
        options.out.write_text(json.dumps(rows), "utf-8")


if __name__ == "__main__":
    main()
