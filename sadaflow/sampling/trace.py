"""The trajectory of a sampling run: states, predictions, modes and the numbers that decided."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..display import html
from ..display.trace_plot import plot_trajectory
from ..explore import ExploredRun, explore_page
from ..files.atomic import check_target, write_whole

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
        tokens: `tokens[sample][step]`: bool (h, w), or (T, h, w) of a video, on the network's grid of tokens, True
            where computed; None unless pruned.
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

    def explored(
        self, sample: int, label: str, pictures: Tensor | None = None, reference: "Trace | None" = None
    ) -> ExploredRun:
        """What the page to explore runs with shows of a sample.

        Args:
            sample: Index of the sample.
            label: Name of the method.
            pictures: x0 of each step as RGB pictures (N, 3, H, W) in [0, 1].
            reference: The plain run, to which x0 is compared.

        Raises:
            ValueError: If the two traces differ in shape or times.
        """
        curves = {"relative change of x0": self.x0_change()[sample].tolist()}
        curves["velocity, root mean square"] = self.y[sample].double().flatten(1).square().mean(1).sqrt().tolist()
        if reference is not None and reference is not self:
            curves["relative error of x0"] = self.x0_error(reference)[sample].tolist()
        thresholds = {}
        if self.criterion_name is not None and bool(self.criterion[sample].isfinite().any()):
            curves[self.criterion_name] = self.criterion[sample].tolist()
            if self.threshold is not None:
                thresholds[self.criterion_name] = self.threshold
        facts = {name: getattr(self, name).tolist() for name in ("t", "timestep", "sigma", "log_snr")}
        return ExploredRun(label, self.modes[sample], curves, pictures, thresholds, self.tokens[sample], facts)

    def save(
        self,
        path: str | os.PathLike[str],
        preview: Callable[[Tensor], Tensor] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Writes a page with a slider over the steps, as one HTML file that needs no network.

        Args:
            path: The file, which ends in .html.
            preview: Maps latents (B, C, h, w) to RGB pictures (B, 3, H, W) in [0, 1], as `pipe.preview` does. None: the
                page has curves and modes only.
            overwrite: Whether an existing file is replaced.

        Raises:
            ValueError, FileExistsError, NotADirectoryError: See `check_target`.
        """
        check_target(Path(path), overwrite, ".html")
        runs = {
            f"sample {sample}": [self.explored(sample, "run", None if preview is None else preview(self.x0[sample]))]
            for sample in range(len(self.modes))
        }
        text = explore_page(Path(path).stem, runs)
        write_whole(Path(path), lambda file: file.write(text.encode()), overwrite)

    def __repr__(self) -> str:
        decided = "" if self.criterion_name is None else f", criterion={self.criterion_name!r}"
        return f"Trace(x={tuple(self.x.shape)}, {html.counted(self.modes)}{decided})"

    def _repr_html_(self) -> str:
        return html.panel(repr(self), html.strip(self.modes))
