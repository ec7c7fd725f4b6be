"""Measures searched sets of evaluated steps beside `auto`, published sets and fewer steps, on an embedded checkpoint.

    python docs/scripts/measure_schedules.py tiny-sd --solver dpmpp2m --budgets 16 12 8 6 --folder schedules

Sets are searched on the captions that calibrations are measured with (docs/scripts/calibrate_embedded.py). Reported are
the 20 prompts of the suite fronts-tiny-sd with seed 0, on which nothing is tuned. A table is printed. Searches and rows
that the folder already holds are not made again.
"""

import argparse
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from calibrate_embedded import PROMPTS
from torch import Tensor

from sadaflow import Auto, Pipeline
from sadaflow.accelerators import Accelerator, Schedule
from sadaflow.accelerators.steps.published import PUBLISHED, published_mask
from sadaflow.metrics.fidelity import psnr
from sadaflow.pipeline.schedule_search import SearchSettings, search_pipeline
from sadaflow.sampling.schedule_search import SearchEffort

BATCH = 10
PREDICTORS = ("kriging", "held")


@dataclass(frozen=True)
class Way:
    """One way of sampling: a solver, its steps and an accelerator."""

    name: str
    solver: str
    steps: int
    accelerator: Accelerator | None = None


def ways(options: argparse.Namespace, pipe: Pipeline) -> Iterator[Way]:
    """The ways at each budget; sets are searched when it is their turn."""
    solver, steps = options.solver, options.steps
    effort = SearchEffort(samples=options.samples, tries=options.tries, batch=options.samples)
    for budget in options.budgets:
        for predictor in options.predictors:
            path = options.folder / f"{options.model}-{solver}-{steps}-{budget}-{predictor}.json"
            settings = SearchSettings(budget, predictor, True, effort)
            how = {"solver": solver, "steps": steps, "guidance": options.guidance, "progress": False}
            found = search_pipeline(pipe, settings, path, PROMPTS, **how)
            start = next(iter(found.tried))
            yield Way(f"{budget}: path, {predictor}", solver, steps, Schedule(start, predictor, correct=True))
            yield Way(f"{budget}: searched, {predictor}", solver, steps, Schedule(str(path)))
            yield Way(f"{budget}: searched, {predictor}, no replay", solver, steps, Schedule(str(path), correct=False))
        yield Way(f"{budget}: auto", solver, steps, Auto(budget=budget, max_skips=6 if budget >= 12 else 12))
        for rival in dict.fromkeys((solver, "unipc", "deis")):
            yield Way(f"{budget}: {budget} steps of {rival}", rival, budget)
    for name in PUBLISHED:
        if (count := sum(published_mask(name, steps))) <= max(options.budgets) + 1:
            yield Way(f"{count}: {name}", solver, steps, Schedule(name, "kriging", correct=True))


def sampled(pipe: Pipeline, way: Way, prompts: list[str], guidance: float | None) -> tuple[Tensor, list[float]]:
    """Pictures (B, 3, H, W) and the evaluations of every sample, all with seed 0."""
    pictures, nfe = [], []
    for first in range(0, len(prompts), BATCH):
        out = pipe(
            prompts[first : first + BATCH], seed=[0] * len(prompts[first : first + BATCH]), solver=way.solver,
            steps=way.steps, guidance=guidance, accelerator=way.accelerator, output="tensor", progress=False,
        )  # fmt: skip
        pictures.append(out.images.float())
        nfe += out.stats.nfe
    return torch.cat(pictures), nfe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--solver", default="dpmpp2m")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--budgets", type=int, nargs="+", default=[16, 12, 8, 6])
    parser.add_argument("--predictors", nargs="+", default=PREDICTORS)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--tries", type=int, default=60)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    suite = tomllib.loads((files("sadaflow") / "bench/suites" / f"fronts-{options.model}.toml").read_text("utf-8"))
    prompts, options.guidance = suite["prompts"], suite.get("guidance")
    pipe = Pipeline.from_pretrained(options.model)
    plain, _ = sampled(pipe, Way("plain", options.solver, options.steps), prompts, options.guidance)
    options.folder.mkdir(parents=True, exist_ok=True)
    stored = options.folder / f"{options.model}-{options.solver}-{options.steps}-rows.json"
    rows = json.loads(stored.read_text("utf-8")) if stored.exists() else {}
    print(f"{options.model}, {options.solver}, {options.steps} steps, {len(prompts)} samples")
    print("| | evaluations | PSNR mean | 5th percentile | worst |\n|---|---|---|---|---|")
    for way in ways(options, pipe):
        if way.name not in rows:
            try:
                pictures, nfe = sampled(pipe, way, prompts, options.guidance)
            except ValueError as refusal:
                print(f"| {way.name} | {refusal} | | | |", flush=True)
                continue
            rows[way.name] = {"nfe": nfe, "psnr": psnr(pictures, plain).tolist()}
            stored.write_text(json.dumps(rows), "utf-8")
        quality = rows[way.name]["psnr"]
        shown = [f"{value:.1f}" for value in (np.mean(quality), np.percentile(quality, 5), min(quality))]
        print(f"| {way.name} | {np.mean(rows[way.name]['nfe']):.2f} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
