"""What accelerators that act inside the network share: batch indices, the outermost seam, and refusals."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from sadaflow.models import Site
from sadaflow.solvers import Solver

from ...device.indexing import taken
from ...device.readback import Readback
from ..base import Accelerator, Mode, Run
from ..fitting import calibrated
from ..forwarding import begin_run, innermost

Handler = Callable[..., Tensor]
"""A function called as a seam is, at one site."""


def batch_indices(batch: Tensor, samples: int, chosen: Sequence[int]) -> list[int]:
    """Indices of chosen samples in a network's batch, branch by branch.

    Args:
        batch: A batch of branches x samples, (branches x samples, ...).
        samples: Number of samples in it.
        chosen: Indices of the chosen samples.
    """
    return [branch + sample for branch in range(0, batch.shape[0], samples) for sample in chosen]


def on_some(fn: Handler, samples: int, chosen: Sequence[int], hidden: Tensor, *args: Tensor | None) -> Tensor:
    """Calls `fn` for some samples only, with all branches of each.

    Args:
        fn: What is called.
        samples: Number of samples in the batch.
        chosen: Indices of the samples that `fn` gets.
        hidden: First argument of `fn`, (branches x samples, ...).
        *args: Further arguments, each as `hidden`, or None.

    Returns:
        What `fn` returns for them, (branches x chosen, ...).
    """
    if len(chosen) == samples:
        return fn(hidden, *args)
    at = batch_indices(hidden, samples, chosen)
    return fn(taken(hidden, at), *(None if arg is None else taken(arg, at) for arg in args))


def mean_sizes(values: Tensor, samples: int) -> Tensor:
    """Mean |values| of each sample over all branches, (samples,); values are (branches x samples, ...)."""
    exact = torch.promote_types(values.dtype, torch.float32)
    return values.abs().unflatten(0, (-1, samples)).transpose(0, 1).flatten(1).mean(dim=1, dtype=exact)


def relative_change(new: Tensor, old: Tensor, samples: int) -> list[float]:
    """Mean |new - old| / mean |old| of each sample, over all branches; new and old are (branches x samples, ...)."""
    return Readback(mean_sizes(new - old, samples) / mean_sizes(old, samples)).read()


class Outermost:
    """The seam of one evaluation that acts on the whole network: on a transformer's trunk or a U-Net's first shell.

    Args:
        handle: Called at that site as a seam is.
        decides: Whether what it does there depends on the values it sees.
    """

    def __init__(self, handle: Handler, decides: bool = False) -> None:
        self.decides = decides
        self._handle = handle
        self._met = False

    def __call__(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        if self._met or site.kind not in ("trunk", "shell"):
            return fn(hidden, *args)
        self._met = True
        return self._handle(site, fn, hidden, *args)


class InsideRun(Run):
    """Base class of runs that act inside the network.

    Args:
        solver: The solver of the run.
        shape: Shape of the states, (B, C, h, w).
        seams: Whether the denoiser lets a seam into its network.

    Attributes:
        name: The accelerator's name, for messages.
        needs: What the network must have, for messages.
        sites: Kinds of sites at which the run acts; the network must have one of them.
        steps: Number of evaluations.
        met: Whether such a site was found in the network. Subclasses set it; if it is still False after the first
            evaluation, the run raises ValueError.

    Raises:
        ValueError: if the denoiser lets no seam in, or the states have another number of dimensions.
    """

    name: str
    needs: str
    sites: frozenset[str] = frozenset({"trunk", "shell"})

    def __init__(self, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(shape[0])
        self.steps = solver.n_evals
        self.met = False
        if not seams:
            raise ValueError(
                f"accelerator {self.name!r} acts inside the network, and this denoiser is a plain callable: it needs "
                "one with `evaluate`, as `RowDenoise` describes"
            )
        if len(shape) not in (4, 5):
            raise ValueError(
                f"accelerator {self.name!r} needs states (B, C, h, w), or (B, C, T, h, w) of videos, got {tuple(shape)}"
            )

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        return [Mode.CACHED] * len(rows)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if not self.met:
            self.refuse()

    def refuse(self) -> NoReturn:
        """Raises ValueError: the network does not have what the run needs."""
        raise ValueError(f"accelerator {self.name!r} needs {self.needs}, which this network does not have")


def check_fit(
    accelerator: Accelerator, solver: Solver, shape: torch.Size, network: object, calibrations: Sequence[Any] = ()
) -> None:
    """Checks that an accelerator can begin a run, and that the network has a site for it if it lists its `sites`.

    Args:
        accelerator: The accelerator.
        solver: The solver, with its grid.
        shape: Shape of the states, (B, ...).
        network: The network.
        calibrations: What was measured of the network. A run may yet be refused, if none fits its guidance.

    Raises:
        ValueError: if not.
    """
    accelerator = calibrated(accelerator, calibrations, solver)
    run, sites = innermost(begin_run(accelerator, solver, shape, seams=True)), getattr(network, "sites", None)
    if isinstance(run, InsideRun) and sites is not None and run.sites.isdisjoint(sites):
        run.refuse()


class ScheduledRun(InsideRun):
    """Base class of runs that compute all of the network at steps known beforehand, and a part of it at the others.

    Args:
        solver: The solver of the run.
        shape: Shape of the states, (B, C, h, w).
        seams: Whether the denoiser lets a seam into its network.
        full: Indices of the steps that compute all of it, from the number of steps.
    """

    def __init__(self, solver: Solver, shape: torch.Size, seams: bool, full: Callable[[int], frozenset[int]]) -> None:
        super().__init__(solver, shape, seams)
        self.full = full(self.steps)

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.FULL if step in self.full else Mode.CACHED] * self.samples
