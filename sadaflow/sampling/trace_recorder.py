"""Fills a trace during a run."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ..accelerators.base import Run
from .trace import Trace


class TraceRecorder:
    """Fills a trace during a run. Tensors are copied to the CPU at once, into memory allocated at the start.

    Args:
        solver: The solver of the run.
        noise: Initial noise, (B, ...).
    """

    def __init__(self, solver: Solver, noise: Tensor) -> None:
        samples, steps = noise.shape[0], solver.n_evals
        self.nodes = solver.nodes
        shape = (samples, steps, *noise.shape[1:])
        self.x, self.x0, self.y = (torch.empty(shape, dtype=noise.dtype) for _ in range(3))
        self.criterion = torch.full((samples, steps), math.nan, dtype=torch.float64)
        self.name: str | None = None
        self.threshold: float | None = None
        self.tokens: list[list[Tensor | None]] = [[None] * steps for _ in range(samples)]
        self.totals = torch.zeros(2, steps + 1, dtype=torch.float64)

    def record(
        self, step: int, tensors: tuple[Tensor, Tensor, Tensor], run: Run, network: float, controller: float
    ) -> None:
        """Adds one evaluation, before the run has observed it.

        Args:
            step: Index of the evaluation.
            tensors: x, x0 and y of the step, (B, ...) each.
            run: The accelerator's run, asked to explain its plan.
            network: Seconds spent in the network since the start.
            controller: Seconds spent in the accelerator since the start.
        """
        self.totals[:, step + 1] = torch.tensor([network, controller], dtype=torch.float64)
        self.replace(step, tensors)
        if run.capabilities.explains:
            explained = run.explain(step)
            self.name, self.threshold = explained.name, explained.threshold
            self.criterion[:, step] = torch.tensor(explained.values, dtype=torch.float64)
            for row, mask in enumerate(explained.tokens):
                self.tokens[row][step] = None if mask is None else mask.cpu()

    def replace(self, step: int, tensors: tuple[Tensor, Tensor, Tensor]) -> None:
        """Replaces x, x0 and y of a step that was recorded, (B, ...) each."""
        for kept, value in zip((self.x, self.x0, self.y), tensors, strict=True):
            kept[:, step] = value

    def trace(self, modes: Sequence[Sequence[str]]) -> Trace:
        """The trace of the steps recorded, with `modes[sample][step]`."""
        made = len(modes[0])  # fewer than there are nodes if the run was stopped

        def of_nodes(name: str) -> Tensor:
            return torch.tensor([getattr(node, name) for node in self.nodes[:made]], dtype=torch.float64)

        network, controller = self.totals[:, : made + 1].diff(dim=1)
        return Trace(
            x=self.x[:, :made],
            x0=self.x0[:, :made],
            y=self.y[:, :made],
            modes=tuple(map(tuple, modes)),
            criterion=self.criterion[:, :made],
            criterion_name=self.name,
            threshold=self.threshold,
            tokens=tuple(tuple(row[:made]) for row in self.tokens),
            t=of_nodes("t"),
            timestep=of_nodes("timestep"),
            sigma=of_nodes("sigma"),
            log_snr=of_nodes("log_snr"),
            network_seconds=network,
            controller_seconds=controller,
        )
