"""A toy problem: exact denoisers of independent normals on a flow schedule, one distribution per sample."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sadaflow.models import Seam, Site
from sadaflow.solvers import Grid, RectifiedFlow, Solver, make_solver

SHAPE = (2, 6, 6)


def solver_of(steps: int, name: str = "dpmpp2m", end: float = 0.0) -> Solver:
    times = torch.linspace(0.999, end, steps + 1, dtype=torch.float64)
    return make_solver(name, Grid.from_t(RectifiedFlow(), times))


class Gaussians:
    """Exact x0 for data whose positions are independent normals: mean m, standard deviation s, own to each sample.

    `wiggle` (B,) adds an oscillation from step to step, which makes a trajectory unstable.
    """

    def __init__(self, solver: Solver, mean: Tensor, deviation: Tensor, wiggle: Tensor) -> None:
        self.nodes, self.mean, self.deviation, self.wiggle = solver.nodes, mean, deviation, wiggle
        self.calls: list[tuple[int, list[int]]] = []

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(x.shape[0]), None)

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam | None) -> Tensor:
        self.calls.append((step, list(rows)))
        node, index = self.nodes[step], list(rows)
        mean, variance = self.mean[index], self.deviation[index] ** 2
        gain = node.alpha * variance / (node.alpha**2 * variance + node.sigma**2)
        answer = mean + gain * (x - node.alpha * mean)
        answer = answer + self.wiggle[index].view(-1, 1, 1, 1) * math.sin(2.5 * step)
        if seam is None:
            return answer
        size = (x.shape[-2], x.shape[-1])
        tokens = seam(Site("block", "only", 0, size), lambda hidden: hidden, answer.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, size)


def problem(steps: int, samples: int = 3, name: str = "euler") -> tuple[Solver, Gaussians, Tensor]:
    generator = torch.Generator().manual_seed(5)
    solver = solver_of(steps, name)
    mean = torch.randn(samples, *SHAPE, generator=generator, dtype=torch.float64)
    mean *= torch.logspace(-1, 0, samples, dtype=torch.float64).view(-1, 1, 1, 1)
    deviation = torch.rand(samples, *SHAPE, generator=generator, dtype=torch.float64) + 0.05
    noise = torch.randn(samples, *SHAPE, generator=generator, dtype=torch.float64)
    wiggle = torch.zeros(samples, dtype=torch.float64)
    wiggle[-1] = 0.01
    return solver, Gaussians(solver, mean, deviation, wiggle), noise


def restricted(denoise: Gaussians, rows: list[int]) -> Gaussians:
    solver = solver_of(len(denoise.nodes))
    return Gaussians(solver, denoise.mean[rows], denoise.deviation[rows], denoise.wiggle[rows])
