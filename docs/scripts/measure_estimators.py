"""The table of docs/sada.md on SADA's estimators: orders on an exact mixture, fidelity on tiny-sd.

    python docs/scripts/measure_estimators.py

The prompts are not those of the model card.
"""

import math

import torch
from torch import Tensor

from sadaflow import SADA, Pipeline
from sadaflow.accelerators import ESTIMATORS
from sadaflow.accelerators.sada.criterion import extrapolate, noise_of, stepwise_x0
from sadaflow.metrics import psnr
from sadaflow.solvers import Grid, RectifiedFlow, reference_solution
from sadaflow.solvers.checks.problems import mixture, unit_noise

PROMPTS = ["hot dog", "fire", "tree", "blue heart"]
SEEDS = [100, 101, 102, 103]
T, STEP = 0.5, 0.02  # where the mixture is examined, and the step at which errors are shown: one of 50


def on_trajectory(t: float) -> tuple[Tensor, Tensor, Tensor]:
    """x, x0 and y of the mixture's trajectories on rectified flow."""
    grid = Grid.from_t(RectifiedFlow(), [0.95, t])
    x = reference_solution(mixture().x0, grid, unit_noise(64), rtol=1e-12, atol=1e-13)
    x0 = mixture().x0(x, 1 - t, t)
    return x, x0, (x - x0) / t


def errors(name: str, h: float, uneven: bool) -> tuple[float, float]:
    """RMS errors of the next state and of its x0, over one step."""
    times = [T, T + 1.6 * h, T + 2.3 * h] if uneven else [T, T + h, T + 2 * h]
    end = T - 0.7 * h if uneven else T - h
    past = [on_trajectory(t) for t in times]
    x, x0, _ = past[0]
    state = extrapolate(x, [y for _, _, y in past], end - T, ESTIMATORS[name](times, end))
    clean = stepwise_x0(state, noise_of(x, x0, 1 - T, T), 1 - end, end)
    true_x, true_x0, _ = on_trajectory(end)
    return tuple(float((a - b).square().mean().sqrt()) for a, b in ((state, true_x), (clean, true_x0)))  # type: ignore[return-value]


def theory() -> dict[str, list[str]]:
    rows = {}
    for name in ESTIMATORS:
        fine, finer = STEP / 8, STEP / 16
        even, half = errors(name, fine, False), errors(name, finer, False)
        uneven = math.log2(errors(name, fine, True)[0] / errors(name, finer, True)[0])
        shown = errors(name, STEP, False)
        orders = [math.log2(even[0] / half[0]) - 1, uneven - 1, math.log2(even[1] / half[1])]
        rows[name] = [f"{orders[0]:.2f}", f"{orders[1]:.2f}", f"{shown[0]:.1e}", f"{orders[2]:.2f}", f"{shown[1]:.1e}"]
    return rows


def practice(solver: str) -> dict[str, list[str]]:
    """NFE, and PSNR mean and worst against the plain run, on tiny-sd."""
    pipe = Pipeline.from_pretrained()
    call = {"steps": 50, "solver": solver, "guidance": 5.0, "seed": SEEDS, "output": "tensor"}
    plain = pipe(PROMPTS, **call).images
    rows = {}
    for name in ESTIMATORS:
        out = pipe(PROMPTS, accelerator=SADA(estimator=name), **call)
        values = psnr(out.images, plain)
        nfe = sum(out.stats.nfe) / len(PROMPTS)
        rows[name] = [f"{nfe:.1f}", f"{float(values.mean()):.1f} / {float(values.min()):.1f}"]
    return rows


def main() -> None:
    torch.set_grad_enabled(False)
    columns = ["order", "uneven", "error of x", "order of x0", "error of x0"]
    parts = [theory(), practice("euler"), practice("dpmpp2m")]
    columns += [f"{solver} {what}" for solver in ("Euler", "2M") for what in ("NFE", "PSNR mean / worst")]
    print("| estimator | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in ESTIMATORS:
        print(f"| `{name}` | " + " | ".join(cell for part in parts for cell in part[name]) + " |", flush=True)


if __name__ == "__main__":
    main()
