"""Fits the plans of `Auto`: follows sets of evaluated steps, and measures what predicts the plain runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from sadaflow.models import call_through
from sadaflow.solvers import Solver

from ..accelerators.auto.linear_states import linear_states
from ..accelerators.auto.plans import Fork, Plan
from ..accelerators.history import Array
from .denoiser import RowDenoise
from .loop import sample
from .plan_steps import STATES, PlanCosts
from .results import Step

_POSITIONS = 4096  # elements of each sample that products are means of
_LOST = 100.0  # a sample whose squared error is so many times the median counts half


@dataclass(frozen=True)
class PlainRun:
    """A batch of plain runs.

    Attributes:
        denoise: The denoiser.
        noise: Unit-normal noise, (B, ...).
        start: First states, (B, ...).
        x0: Some elements of x0 at every step, (N, B, P).
        end: Final states, (B, ...).
    """

    denoise: RowDenoise
    noise: Tensor
    start: Tensor
    x0: Tensor
    end: Tensor

    @classmethod
    def of(cls, solver: Solver, denoise: RowDenoise, noise: Tensor) -> Self:
        """Samples plainly from noise (B, ...)."""
        seen: list[Tensor] = []

        def keep(step: Step) -> None:
            seen.append(some_elements(step.x0))

        end = sample(solver, denoise, noise, observer=keep).x
        return cls(denoise, noise, solver.start(noise).x, torch.stack(seen), end)


def some_elements(values: Tensor) -> Tensor:
    """At most 4096 evenly spaced elements of each of values (B, ...), in float64: (B, P)."""
    flat = values.flatten(1)
    chosen = torch.linspace(0, flat.shape[1] - 1, min(flat.shape[1], _POSITIONS), dtype=torch.float64)
    return flat[:, chosen.round().long().to(flat.device)].double()


def plain_products(runs: Sequence[PlainRun]) -> Array:
    """Products of the first state and of x0 at every step, means over samples and elements, (N + 1, N + 1)."""
    values = torch.cat([torch.cat((some_elements(run.start)[None], run.x0)) for run in runs], dim=1).flatten(1)
    found: Array = (values @ values.T / values.shape[1]).cpu().numpy()
    return found


@dataclass(frozen=True)
class Followed:
    """Runs that have followed the first evaluations of a plan.

    Attributes:
        solver: The solver.
        states: See `linear_states`.
        runs: The plain runs of the same samples.
        nodes: Evaluated steps so far.
        values: By batch, the first states and the evaluated x0, (B, ...) each.
    """

    solver: Solver
    states: tuple[Array, ...]
    runs: Sequence[PlainRun]
    nodes: tuple[int, ...]
    values: tuple[tuple[Tensor, ...], ...]

    @classmethod
    def begin(cls, solver: Solver, runs: Sequence[PlainRun]) -> Self:
        """Runs before their first evaluation."""
        return cls(solver, linear_states(solver), runs, (), tuple((run.start,) for run in runs))

    def through(self, nodes: Sequence[int]) -> "Followed":
        """The runs after the further evaluations of `nodes`, which begin with those so far."""
        found = self
        for step in nodes[len(self.nodes) :]:
            fresh = [
                run.denoise.evaluate(x, step, range(len(x)), call_through)
                for run, x in zip(self.runs, found.at(step), strict=True)
            ]
            values = tuple((*held, x0) for held, x0 in zip(found.values, fresh, strict=True))
            found = replace(found, nodes=(*found.nodes, step), values=values)
        return found

    def after(self, evaluations: int) -> "Followed":
        """The runs after the first so many evaluations."""
        values = tuple(held[: evaluations + 1] for held in self.values)
        return replace(self, nodes=self.nodes[:evaluations], values=values)

    def at(self, step: int) -> list[Tensor]:
        """The states in which a step after the last evaluation is evaluated, (B, ...) by batch."""
        if not self.nodes:
            return [run.start for run in self.runs]
        weights = self.plan().weights()[-1, :, ::-1].copy()  # the first state's, then from the oldest x0 on
        last = self.nodes[-1]
        if step == last + 1:  # nothing lies between, so that the step from `last` is taken with its own x0
            weights[last] = np.eye(weights.shape[1])[-1]
        linear = self.states[step][0]
        each = linear[1:] @ weights
        each[0] += linear[0]
        return [
            sum((float(weight) * value for weight, value in zip(each[1:], held[1:], strict=True)), each[0] * held[0])
            for held in self.values
        ]

    def plan(self) -> Plan:
        """The plan of the evaluations so far.

        A sample whose x0 is far from that of its plain run counts little: it is lost, and would bend the weights for
        all others.
        """
        known = zip(*self.values, strict=True)  # by value, a tensor of each batch
        values = torch.stack([torch.cat([some_elements(part) for part in parts]) for parts in known])
        targets = torch.cat([run.x0 for run in self.runs], dim=1)
        away = (values[-1] - targets[self.nodes[-1]]).square().mean(dim=1)
        trust = 1 / (1 + away / (_LOST * away.median().clamp(min=1e-30)))
        trust = (trust / trust.mean()).sqrt()[:, None]
        values, targets = (values * trust).flatten(1), (targets * trust).flatten(1)
        values[2:] -= values[1:-1].clone()  # changes of x0
        both = torch.cat((values, targets))
        products = (values @ both.T / values.shape[1]).cpu().numpy()
        count = len(values)
        return Plan(
            self.nodes,
            tuple(_rounded(row[: index + 1]) for index, row in enumerate(products)),
            tuple(_rounded(row[count:]) for row in products),
        )

    def loss(self) -> float:
        """Mean over samples of log10 of the mean squared error of the final states against the plain runs."""
        return float(log_errors(self.at(self.solver.n_evals), self.runs).mean())

    def logarithms(self) -> Array:
        """Logarithms of the root-mean-square errors of the last x0 as predicted from the values before, (B,)."""
        weights = self.plan().forecast(len(self.nodes) - 1)[::-1]
        misses = []
        for held in self.values:
            predicted = sum(float(weight) * value for weight, value in zip(weights, held[:-1], strict=True))
            misses.append((predicted - held[-1]).flatten(1).float().square().mean(dim=1).sqrt())
        found: Array = torch.cat(misses).double().clamp(min=1e-30).log().cpu().numpy()
        return found


def log_errors(ends: Sequence[Tensor], runs: Sequence[PlainRun]) -> Tensor:
    """log10 of the mean squared error of every sample's final state against the plain runs, (samples,)."""
    errors = [(end - run.end).flatten(1).double().square().mean(dim=1) for end, run in zip(ends, runs, strict=True)]
    return torch.cat(errors).clamp(min=1e-30).log10()


def _rounded(row: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.8g}") for value in row)


def fitted_fork(costs: PlanCosts, begun: Followed, evaluations: int, apart: int) -> tuple[Fork, float]:
    """Plans of about `evaluations` evaluations that share their first two thirds.

    Args:
        costs: What sets of steps lose.
        begun: Runs before their first evaluation.
        evaluations: Evaluations of the plan in the middle, which of several searched sets is the one that loses least.
        apart: How many the other two make less and more.

    Returns:
        The fork, and the loss of the plan in the middle (see `Followed.loss`).
    """
    sets = {costs.searched(evaluations, between): between for between in reversed(STATES)}
    tried = [begun.through(nodes) for nodes in sets]
    losses = [each.loss() for each in tried]
    middle = tried[losses.index(min(losses))]
    most, last = max(1, min(round(2 * evaluations / 3), evaluations - apart)), begun.solver.n_evals - 1
    # as many as leave steps for all further evaluations of the longest plan
    shared = max(each for each in range(1, most + 1) if last - middle.nodes[each - 1] >= evaluations + apart - each)
    trunk = middle.after(shared)
    misses = trunk.logarithms()
    counts = (evaluations - apart, evaluations + apart)
    others = (costs.searched(count, sets[middle.nodes], trunk.nodes) for count in counts)
    fewer, more = (trunk.through(nodes).plan() for nodes in others)
    fork = Fork(shared, (fewer, middle.plan(), more), float(misses.mean()), max(float(misses.std()), 1e-6))
    return fork, min(losses)
