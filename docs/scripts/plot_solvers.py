"""Work-precision diagrams of the solvers: error against network evaluations.

    python docs/scripts/plot_solvers.py              the Gaussian mixture           -> docs/solvers_mixture.png
    python docs/scripts/plot_solvers.py --checkpoint  the embedded checkpoint        -> docs/solvers_checkpoint.png
    python docs/scripts/plot_solvers.py --checkpoint DIR  a folder or Hub id of your own

Needs matplotlib; the checkpoint needs what pipelines need. The mixture takes about a minute on one core, the embedded
checkpoint ten.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from sadaflow.solvers import (
    Adaptive,
    Grid,
    RectifiedFlow,
    Schedule,
    Solver,
    VPDiscrete,
    make_solver,
    reference_solution,
)
from sadaflow.solvers.checks.problems import final_x, mixture, stable_diffusion, unit_noise
from sadaflow.solvers.spacing import karras, shift_time

HERE = Path(__file__).parents[1]
FAMILIES = {
    "one step at a time": ("heun", "midpoint", "rk4", "dpmpp2s", "dpmpp3s"),
    "past answers x0": ("dpmpp2m", "dpmpp3m", "exp-ab3", "unipc", "unipc3"),
    "past answers eps or dx/dt": ("plms", "dpm2m", "deis", "deis3", "ab2", "ab4"),
}
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
MARKS = "os^Dvp"
GREY = "#888888"

Curve = list[tuple[int, float]]


def vp_grid(schedule: VPDiscrete, steps: int) -> Grid:
    """Karras steps over the whole table; it stops at the table's first entry, so that every run ends at one point."""
    table = schedule.alphas_cumprod
    ratios = ((1 - table) / table).sqrt()
    return Grid.from_sigma_ve(schedule, karras(float(ratios[-1]), float(ratios[0]), steps + 1))


def flow_grid(steps: int) -> Grid:
    """Flow time from pure noise, shifted by 3 as in image models."""
    return Grid.from_t(RectifiedFlow(), shift_time(np.linspace(1, 0.01, steps + 1), 3.0))


def steps_for(name: str, grid: Callable[[int], Grid], evaluations: int) -> int:
    """The most steps that stay within a number of evaluations; 0 where none do."""
    fitting = [n for n in range(2, evaluations + 1) if make_solver(name, grid(n)).n_evals <= evaluations]
    return max(fitting, default=0)


def rms(difference: Tensor) -> float:
    return float(difference.double().square().mean().sqrt())


def curve(name: str, grid: Callable[[int], Grid], budget: list[int], error: Callable[[Solver], float]) -> Curve:
    """(evaluations, error) of a solver for every number of evaluations of the budget."""
    points = {}
    for evaluations in budget:
        steps = steps_for(name, grid, evaluations)
        if steps:
            solver = make_solver(name, grid(steps))
            points.setdefault(solver.n_evals, error(solver))
    return sorted(points.items())


def draw(
    axes: Axes,
    curves: dict[str, Curve],
    euler: Curve,
    extra: dict[str, Curve] | None = None,
    *,
    legend: str = "lower left",
) -> None:
    axes.loglog(*zip(*euler, strict=True), color=GREY, lw=1.2, ls="--", label="euler = ddim")
    for (name, points), colour, mark in zip(curves.items(), COLOURS, MARKS, strict=False):
        axes.loglog(*zip(*points, strict=True), color=colour, marker=mark, ms=3.5, lw=1.4, label=name)
    for name, points in (extra or {}).items():
        axes.loglog(*zip(*points, strict=True), color="black", marker="x", ms=5, lw=0, label=name)
    axes.grid(True, which="major", color="#e4e4e4", lw=0.6)
    axes.minorticks_off()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(fontsize=7, frameon=False, loc=legend)


def figure(rows: list[str], title: str) -> tuple[plt.Figure, np.ndarray]:
    made, axes = plt.subplots(
        len(rows), len(FAMILIES), figsize=(11, 3.5 * len(rows) + 0.4), sharex=True, sharey="row", squeeze=False
    )
    made.suptitle(title, fontsize=11)
    for column, family in enumerate(FAMILIES):
        axes[0, column].set_title(family, fontsize=10)
        axes[-1, column].set_xlabel("network evaluations")
    for row, name in enumerate(rows):
        axes[row, 0].set_ylabel(f"{name}\nRMS error of x at the end")
    return made, axes


def finish(made: plt.Figure, axes: np.ndarray, budget: list[int], path: Path) -> None:
    ticks = [n for n in (5, 10, 20, 40, 80, 160) if budget[0] <= n <= budget[-1]]
    axes[0, 0].set_xticks(ticks, labels=[str(n) for n in ticks])
    made.tight_layout()
    made.savefig(path, dpi=130)
    print(f"wrote {path}")


def plot_mixture() -> None:
    budget, data, noise = [5, 7, 10, 14, 20, 28, 40, 56, 80, 112, 160], mixture(), unit_noise(256)
    schedule = stable_diffusion()
    rows: dict[str, Callable[[int], Grid]] = {
        "VP, Karras": lambda n: vp_grid(schedule, n),
        "rectified flow, shift 3": flow_grid,
    }
    made, axes = figure(list(rows), "Gaussian mixture, exact denoiser")
    for row, grid in enumerate(rows.values()):
        first = grid(2)
        exact = reference_solution(data.x0, first, noise * first.start_scale)

        def error(solver: Solver, exact: Tensor = exact) -> float:
            return rms(final_x(solver, data.denoiser(solver), noise) - exact)

        euler = curve("euler", grid, budget, error)
        adaptive = adaptive_curve(first.schedule, first, noise, exact)
        for column, names in enumerate(FAMILIES.values()):
            extra = {"adaptive 5(4)": adaptive} if column == 0 else None
            draw(axes[row, column], {name: curve(name, grid, budget, error) for name in names}, euler, extra)
    finish(made, axes, budget, HERE / "solvers_mixture.png")


def adaptive_curve(schedule: Schedule, grid: Grid, noise: Tensor, exact: Tensor) -> Curve:
    data, points = mixture(), []
    for tolerance in (3e-2, 1e-2, 1e-3, 1e-4, 1e-5):
        solver = Adaptive(schedule, float(grid.t[0]), float(grid.t[-1]), rtol=tolerance, atol=tolerance)
        run = solver.solve(lambda x, node: data.x0(x, node.alpha, node.sigma), noise)
        points.append((run.nfe, rms(run.x - exact)))
    return points


def plot_checkpoint(model: str | None, device: str) -> None:
    from sadaflow import Pipeline

    budget, prompts = [6, 9, 13, 19, 28, 40], ["red apple", "pizza"]
    pipe = Pipeline.from_pretrained(model, device=device)
    schedule = pipe.schedule
    if not isinstance(schedule, VPDiscrete):
        raise SystemExit("the plot of a checkpoint is laid out for variance-preserving models")

    def grid(steps: int) -> Grid:
        return vp_grid(schedule, steps)

    def latents(solver: Solver) -> Tensor:
        return pipe(prompts, solver=solver, guidance=5.0, seed=[0, 1], output="latent", progress=False).latents.cpu()

    exact = latents(make_solver("ab4", grid(400)))
    doubt = rms(latents(make_solver("ab4", grid(200))) - exact)

    def error(solver: Solver) -> float:
        found = rms(latents(solver) - exact)
        print(
            f"{type(solver).__name__} order {solver.order}: {solver.n_evals} evaluations, error {found:.2e}", flush=True
        )
        return found

    made, axes = figure(["guidance 5, Karras"], f"{pipe.name}: latents against Adams-Bashforth 4 with 404 evaluations")
    euler = curve("euler", grid, budget, error)
    for column, names in enumerate(FAMILIES.values()):
        draw(axes[0, column], {name: curve(name, grid, budget, error) for name in names}, euler, legend="upper right")
        axes[0, column].axhspan(1e-4, doubt, color="#f0f0f0", zorder=0)
        axes[0, column].text(6, doubt * 0.95, "the reference's own error", fontsize=7, color=GREY, va="top")
        axes[0, column].set_ylim(doubt / 2, 60)
    finish(made, axes, budget, HERE / "solvers_checkpoint.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", nargs="?", const="", default=None, metavar="MODEL")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.checkpoint is None:
        plot_mixture()
    else:
        plot_checkpoint(options.checkpoint or None, options.device)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
