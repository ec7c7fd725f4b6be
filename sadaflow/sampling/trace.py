"""A whole sampling run as it happened: what was evaluated, what was estimated, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ..accelerators.base import ExplainedRun, Run


@dataclass(frozen=True, eq=False)
class Trace:
    """The N evaluations of B samples of shape (...), noise first. Every tensor is on the CPU.

    Memory: 3 N times that of the noise in the state's dtype (x, x0 and y), which is 40 MB a sample for 50 steps of SDXL
    at 1024 x 1024 and 160 MB for Flux. An accelerator that corrects past steps (`auto`) leaves them here as they were
    first taken; `x` is the state that was stepped from, after a correction.
    """

    x: Tensor
    """The state, (B, N, ...)."""
    x0: Tensor
    """The network's answer, or the estimate in its place, (B, N, ...)."""
    y: Tensor
    """The velocity dx/dt of the probability-flow ODE at x and x0, (B, N, ...)."""
    modes: tuple[tuple[str, ...], ...]
    """How each x0 was had, as in `Stats`: `modes[sample][step]`."""
    criterion: Tensor
    """What decided whether to evaluate (B, N), float64: at or below `threshold` a step may be skipped. SADA's criterion
    (arXiv 2507.17135, Criterion 3.4, mean of the sample), `auto`'s predicted error; nan where the schedule decided."""
    criterion_name: str | None
    threshold: float | None
    tokens: tuple[tuple[Tensor | None, ...], ...]
    """`tokens[sample][step]`: bool (h, w) on the network's grid of tokens, True where computed; None unless pruned."""
    t: Tensor
    """Time, timestep (as the network is told), noise level and log(alpha / sigma) of each evaluation, (N,), float64."""
    timestep: Tensor
    sigma: Tensor
    log_snr: Tensor
    network_seconds: Tensor
    """Wall-clock seconds that the whole batch spent in the network, (N,), float64."""
    controller_seconds: Tensor
    """Those spent in the accelerator to decide on this evaluation, to estimate and to correct, (N,), float64."""

    def x0_error(self, reference: "Trace") -> Tensor:
        """Per sample and evaluation, |x0 - reference x0| / |reference x0|, (B, N), float64.

        Raises ValueError where the two have not the same evaluations.
        """
        if self.x0.shape != reference.x0.shape or not torch.equal(self.t, reference.t):
            raise ValueError(
                f"traces of different evaluations cannot be compared: x0 of {tuple(self.x0.shape)} and "
                f"{tuple(reference.x0.shape)}, at {'equal' if torch.equal(self.t, reference.t) else 'other'} times"
            )
        wanted = reference.x0.double().flatten(2)
        return (self.x0.double().flatten(2) - wanted).norm(dim=2) / wanted.norm(dim=2)


class Recorder:
    """Fills a trace while a run goes on. The tensors are copied to the CPU at once, into memory taken at the start."""

    def __init__(self, solver: Solver, x: Tensor) -> None:
        samples, steps = x.shape[0], solver.n_evals
        self.nodes = solver.nodes
        self.x, self.x0, self.y = (torch.empty((samples, steps, *x.shape[1:]), dtype=x.dtype) for _ in range(3))
        self.criterion = torch.full((samples, steps), math.nan, dtype=torch.float64)
        self.name: str | None = None
        self.threshold: float | None = None
        self.tokens: list[list[Tensor | None]] = [[None] * steps for _ in range(samples)]
        self.totals = torch.zeros(2, steps + 1, dtype=torch.float64)

    def record(self, step: int, x: Tensor, x0: Tensor, y: Tensor, run: Run, network: float, controller: float) -> None:
        """One evaluation, before the run has observed it; the seconds are those spent since the start."""
        self.totals[:, step + 1] = torch.tensor([network, controller], dtype=torch.float64)
        for kept, value in ((self.x, x), (self.x0, x0), (self.y, y)):
            kept[:, step] = value
        if isinstance(run, ExplainedRun):
            explained = run.explain(step)
            self.name, self.threshold = explained.name, explained.threshold
            self.criterion[:, step] = torch.tensor(explained.values, dtype=torch.float64)
            for row, mask in enumerate(explained.tokens):
                self.tokens[row][step] = None if mask is None else mask.cpu()

    def trace(self, modes: Sequence[Sequence[str]]) -> Trace:
        def of_nodes(name: str) -> Tensor:
            return torch.tensor([getattr(node, name) for node in self.nodes], dtype=torch.float64)

        network, controller = self.totals.diff(dim=1)
        return Trace(
            x=self.x,
            x0=self.x0,
            y=self.y,
            modes=tuple(tuple(one) for one in modes),
            criterion=self.criterion,
            criterion_name=self.name,
            threshold=self.threshold,
            tokens=tuple(tuple(one) for one in self.tokens),
            t=of_nodes("t"),
            timestep=of_nodes("timestep"),
            sigma=of_nodes("sigma"),
            log_snr=of_nodes("log_snr"),
            network_seconds=network,
            controller_seconds=controller,
        )
