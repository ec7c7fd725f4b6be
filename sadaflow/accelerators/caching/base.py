"""What accelerators that act inside the network share: values kept per sample, rows of samples, whom they refuse."""

from collections.abc import Callable, Sequence
from typing import NoReturn

import torch
from torch import Tensor

from sadaflow.models import Site
from sadaflow.solvers import Solver

from ...device.indexing import taken
from ...device.readback import Readback
from ..base import Accelerator, Mode, Run
from ..forwarding import begin_run, innermost

Handler = Callable[..., Tensor]
"""Called as a seam is, at one site."""


def places(batch: Tensor, samples: int, chosen: Sequence[int]) -> list[int]:
    """Where in a batch of branches x samples the `chosen` ones are, branch by branch."""
    return [branch + sample for branch in range(0, batch.shape[0], samples) for sample in chosen]


def on_some(fn: Handler, samples: int, chosen: Sequence[int], hidden: Tensor, *args: Tensor | None) -> Tensor:
    """`fn` on the chosen ones of `samples` samples alone, all branches of each."""
    if len(chosen) == samples:
        return fn(hidden, *args)
    at = places(hidden, samples, chosen)
    return fn(taken(hidden, at), *(None if arg is None else taken(arg, at) for arg in args))


def relative_change(new: Tensor, old: Tensor, samples: int) -> list[float]:
    """Per sample, mean |new - old| / mean |old| over both branches; new and old (branches x samples, ...)."""

    def mean(values: Tensor) -> Tensor:
        exact = torch.promote_types(values.dtype, torch.float32)
        return values.abs().unflatten(0, (-1, samples)).transpose(0, 1).flatten(1).mean(dim=1, dtype=exact)

    return Readback(mean(new - old) / mean(old)).read()


class Outermost:
    """The seam of one evaluation that acts on the network as a whole: on a transformer's trunk, or a U-Net's first
    shell. `decides` tells whether what it does there depends on what it sees."""

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
    """Base of the runs that act inside the network, at sites of the kinds `sites`.

    Raises ValueError where it cannot be entered at all; and, after the first evaluation, where what `needs` names was
    not met in it (`met` is still False).
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
        if len(shape) != 4:
            raise ValueError(f"accelerator {self.name!r} needs states (B, C, h, w), got {tuple(shape)}")

    def carried_out(self, step: int, rows: Sequence[int]) -> Sequence[Mode]:
        return [Mode.CACHED] * len(rows)

    def observe(self, step: int, x: Tensor, x0: Tensor, y: Tensor, x_next: Tensor) -> None:
        if not self.met:
            self.refuse()

    def refuse(self) -> NoReturn:
        """What it needs was not found."""
        raise ValueError(f"accelerator {self.name!r} needs {self.needs}, which this network does not have")


def check_fit(accelerator: Accelerator, solver: Solver, shape: torch.Size, network: object) -> None:
    """ValueError where `accelerator` can begin no run, or where `network` tells its `sites` and has none for it."""
    run, sites = innermost(begin_run(accelerator, solver, shape, seams=True)), getattr(network, "sites", None)
    if isinstance(run, InsideRun) and sites is not None and run.sites.isdisjoint(sites):
        run.refuse()


class ScheduledRun(InsideRun):
    """Computes all of the network at the steps `full`, known beforehand, and a part of it at the others."""

    def __init__(self, solver: Solver, shape: torch.Size, seams: bool, full: Callable[[int], frozenset[int]]) -> None:
        super().__init__(solver, shape, seams)
        self.full = full(self.steps)

    def plan(self, step: int) -> Sequence[Mode]:
        return [Mode.FULL if step in self.full else Mode.CACHED] * self.samples
