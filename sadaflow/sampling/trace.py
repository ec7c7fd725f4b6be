"""The trajectory of a sampling run: states, predictions, modes and the numbers that decided."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sadaflow.solvers import Solver

from ..accelerators.base import Run
from ..display import html
from ..display.trace_plot import plot_trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Trace:
    """A whole sampling run of B samples of shape (...) in N evaluations, noise first. Every tensor is on the CPU.

    Memory: 3 N times that of the noise in the state's dtype (x, x0 and y), which is 40 MB a sample for 50 steps of SDXL
    at 1024 x 1024 and 160 MB for Flux. An accelerator that corrects past steps (`auto`) leaves them here as they were
    first taken; `x` is the state that was stepped from, after a correction.

    Attributes:
        x: States, (B, N, ...).
        x0: The network's x0, or the estimate of it, (B, N, ...).
        y: Velocities dx/dt of the probability-flow ODE at x and x0, (B, N, ...).
        modes: `modes[sample][step]`: how each x0 was obtained, as in `Stats`.
        criterion: What decided whether to evaluate, (B, N), float64: at or below `threshold` a step may be skipped.
            SADA's criterion (arXiv 2507.17135, Criterion 3.4, mean over the sample), the predicted error of `auto`; nan
            where the schedule decided.
        criterion_name: Name of the criterion; None if the accelerator explains nothing.
        threshold: The threshold of the last step; None if the accelerator explains nothing.
        tokens: `tokens[sample][step]`: bool (h, w) on the network's grid of tokens, True where computed; None unless
            pruned.
        t: Time of each evaluation on the solver's schedule, (N,), float64.
        timestep: Timestep that the network is given, (N,), float64.
        sigma: Noise level, (N,), float64.
        log_snr: log(alpha / sigma), (N,), float64.
        network_seconds: Wall-clock seconds of the whole batch in the network, (N,), float64.
        controller_seconds: Seconds in the accelerator to decide on this evaluation, to estimate and to correct, (N,),
            float64.
    """

    x: Tensor
    x0: Tensor
    y: Tensor
    modes: tuple[tuple[str, ...], ...]
    criterion: Tensor
    criterion_name: str | None
    threshold: float | None
    tokens: tuple[tuple[Tensor | None, ...], ...]
    t: Tensor
    timestep: Tensor
    sigma: Tensor
    log_snr: Tensor
    network_seconds: Tensor
    controller_seconds: Tensor

    def x0_error(self, reference: "Trace") -> Tensor:
        """The relative error |x0 - reference x0| / |reference x0| of each sample and evaluation, (B, N), float64.

        Raises:
            ValueError: if the two traces differ in shape or times.
        """
        if self.x0.shape != reference.x0.shape or not torch.equal(self.t, reference.t):
            raise ValueError(
                f"traces of different evaluations cannot be compared: x0 of {tuple(self.x0.shape)} and "
                f"{tuple(reference.x0.shape)}, at {'equal' if torch.equal(self.t, reference.t) else 'other'} times"
            )
        expected = reference.x0.double().flatten(2)
        return (self.x0.double().flatten(2) - expected).norm(dim=2) / expected.norm(dim=2)

    def x0_change(self) -> Tensor:
        """The relative change |x0 - x0 before| / |x0| of each sample from evaluation to evaluation, (B, N), float64.

        NaN at the first evaluation.
        """
        x0 = self.x0.double().flatten(2)
        first = x0.new_full((len(x0), 1), math.nan)
        return torch.cat([first, x0.diff(dim=1).norm(dim=2) / x0[:, 1:].norm(dim=2)], dim=1)

    def rows(self) -> list[dict[str, Any]]:
        """A row of numbers per sample and evaluation, without the tensors."""
        changes, criterion = self.x0_change().tolist(), self.criterion.tolist()
        of_step = {
            name: getattr(self, name).tolist()
            for name in ("t", "timestep", "sigma", "log_snr", "network_seconds", "controller_seconds")
        }
        return [
            {
                "sample": sample, "step": step, "mode": mode, "x0_change": changes[sample][step],
                "criterion": criterion[sample][step], **{name: values[step] for name, values in of_step.items()},
            }
            for sample, modes in enumerate(self.modes)
            for step, mode in enumerate(modes)
        ]  # fmt: skip

    def to_dataframe(self) -> Any:
        """The rows as a pandas DataFrame.

        Raises:
            ImportError: If pandas is not installed; `rows` works without it.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("a data frame needs pandas: pip install pandas; or use trace.rows()") from error
        return pandas.DataFrame(self.rows())

    def plot(self, sample: int = 0) -> "Figure":
        """Draws one sample's criterion, modes, and changes of x0, over the steps.

        Args:
            sample: Index of the sample.

        Returns:
            A matplotlib figure, which a notebook shows.

        Raises:
            ValueError: If there is no such sample.
            ImportError: If matplotlib is not installed.
        """
        if not -len(self.modes) <= sample < len(self.modes):
            raise ValueError(f"sample={sample}: the trace has {len(self.modes)} samples")
        criterion = self.criterion[sample]
        name = self.criterion_name if bool(criterion.isfinite().any()) else None
        changes = self.x0_change()[sample].tolist()
        return plot_trajectory(self.modes[sample], changes, criterion.tolist(), name, self.threshold)

    def __repr__(self) -> str:
        decided = "" if self.criterion_name is None else f", criterion={self.criterion_name!r}"
        return f"Trace(x={tuple(self.x.shape)}, {html.counted(self.modes)}{decided})"

    def _repr_html_(self) -> str:
        return html.panel(repr(self), html.strip(self.modes))


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
