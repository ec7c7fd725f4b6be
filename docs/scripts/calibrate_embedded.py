"""Measures the calibrations that are shipped with the embedded checkpoints.

    python docs/scripts/calibrate_embedded.py tiny-sd tiny-flux tiny-dit

The prompts are drawn from the captions of everyday things that the first two were trained on, without those of the
model card, with seeds that no table reports; tiny-dit is measured on all of its classes. Every calibration is added to
the checkpoint's file as soon as it has been measured, and not measured again; plans are added to those
that have none.
"""

import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from sadaflow import Auto
from sadaflow.loading.embedded import embedded
from sadaflow.pipeline import Pipeline
from sadaflow.pipeline.calibrations import NAME, write_calibrations
from sadaflow.pipeline.tuning import tuning_samples
from sadaflow.sampling.auto_calibration import Effort
from sadaflow.sampling.auto_forks import fit_forks
from sadaflow.training.data.captions import CARD_PROMPTS, EVERYDAY
from sadaflow.training.data.scenes import CLASSES as SCENES

EFFORT = Effort(samples=24, batch=16, planned=64)
CAPTIONS = sorted(set(EVERYDAY) - set(CARD_PROMPTS))
PROMPTS = random.Random(0).sample(CAPTIONS, EFFORT.samples)
FITTED = random.Random(1).sample(CAPTIONS, EFFORT.planned)
CLASSES = {"tiny-dit": tuple(SCENES)}
SOLVERS = {"tiny-sd": ("dpmpp2m", "euler"), "tiny-flux": ("euler",), "tiny-dit": ("euler",)}
GUIDANCE = {"tiny-sd": 5.0}
STEPS = (50, 28, 20, 12)


def main(models: list[str]) -> None:
    for model in models or list(SOLVERS):
        pipe = Pipeline.from_pretrained(model)
        path, classes = Path(embedded(model)) / NAME, CLASSES.get(model)
        for solver, steps in ((solver, steps) for solver in SOLVERS[model] for steps in STEPS):
            own, start = pipe.solver(solver, steps), time.perf_counter()
            how: dict[str, Any] = {"solver": solver, "steps": steps, "guidance": GUIDANCE.get(model)}
            found = next((known for known in pipe.calibrations.held if known.misfit(own) is None), None)
            if found is None:
                found = pipe.calibrate(classes or PROMPTS, effort=replace(EFFORT, planned=0), **how)
            elif found.forks:
                continue
            tuning = tuning_samples(pipe, classes or FITTED, EFFORT.batch, how, lambda _: None, "calibrate")
            found = replace(found, forks=fit_forks(own, tuning.batches(EFFORT.planned), found, Auto()))
            write_calibrations(path, [found])
            print(f"{model}, {solver}, {steps} steps: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
