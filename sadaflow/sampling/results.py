"""What sampling returns, and what observers of it see."""

from dataclasses import dataclass

from torch import Tensor

from ..accelerators.base import Mode
from ..display import html
from .trace import Trace


@dataclass(frozen=True)
class Step:
    """One step as an observer sees it.

    Attributes:
        index: Index of the evaluation, from 0.
        total: Number of evaluations, the solver's `n_evals`.
        t: Time of the evaluation on the solver's schedule.
        x: States that the solver stepped from, (B, ...).
        x0: The network's x0, or the estimate of it, (B, ...).
        y: Velocities dx/dt of the probability-flow ODE at x and x0, (B, ...).
        modes: How each sample got its x0.
        x_next: States after the step, (B, ...), at which the network is evaluated next, or the final ones. None with an
            adaptive solver, which has not chosen its step yet.
    """

    index: int
    total: int
    t: float
    x: Tensor
    x0: Tensor
    y: Tensor
    modes: tuple[Mode, ...]
    x_next: Tensor | None = None


@dataclass(frozen=True)
class Stats:
    """Cost of a sampling run.

    Attributes:
        nfe: Number of function evaluations per sample. An evaluation that takes a part of the network from a cache
            counts as the share of the network's multiplications that it made, one on a part of the tokens as 1, and one
            of the conditional branch alone as one part of all branches of guidance: 1/2, or 1/3 of three.
        modes: `modes[sample][step]`, the value of the `Mode` of each step.
        seconds: Wall-clock seconds of the whole batch. Time spent recording a trace is excluded.
        controller_seconds: Seconds spent in the accelerator, outside the network and the solver; on CUDA, device time.
        network_seconds: Seconds spent in the network; on CUDA, device time.
        stopped_after: Number of steps that were made, if an observer stopped the run; else None.
    """

    nfe: list[float]
    modes: list[list[str]]
    seconds: float
    controller_seconds: float
    network_seconds: float
    stopped_after: int | None = None

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self._lines())
        return f"Stats({values})"

    def _repr_html_(self) -> str:
        return html.panel("Stats", html.table(self._lines()), html.strip(self.modes))

    def _lines(self) -> list[tuple[str, str]]:
        """What is shown of it: names and values."""
        spread = f" ({min(self.nfe):g} to {max(self.nfe):g})" if len(set(self.nfe)) > 1 else ""
        lines = [
            ("samples", str(len(self.nfe))),
            ("steps", str(max(map(len, self.modes), default=0))),
            ("nfe", f"{sum(self.nfe) / max(len(self.nfe), 1):.4g}{spread}"),
            ("modes", html.counted(self.modes)),
            ("seconds", f"{self.seconds:.3g}"),
            ("network", f"{self.network_seconds:.3g}"),
            ("controller", f"{self.controller_seconds:.3g}"),
        ]
        return lines if self.stopped_after is None else [*lines, ("stopped after", str(self.stopped_after))]


@dataclass(frozen=True)
class Sampled:
    """Result of a sampling run.

    Attributes:
        x: States at the last grid point, (B, ...); the last x0 if an observer stopped the run.
        stats: Cost of the run.
        trace: The whole trajectory, if `sample` was called with `trace=True`.
    """

    x: Tensor
    stats: Stats
    trace: Trace | None = None

    def __repr__(self) -> str:
        return f"Sampled(x={tuple(self.x.shape)}, {self.stats}{', trace' if self.trace is not None else ''})"
