"""Measures how the time of accelerators grows with the batch, on one thread of the CPU.

    python -m sadaflow.bench.gpu.scaling

prints the tables of docs/performance.md: process time per step in milliseconds, the least of several runs. Accelerators
that act inside the network spend their time there, and are left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import process_time
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from sadaflow.models import Seam
from sadaflow.solvers import Solver

from ...accelerators import Accelerator, make_accelerator
from ...accelerators.forwarding import ForwardingRun, begin_run
from ...device.indexing import taken
from ...sampling.loop import sample
from .launches import BATCHES, STEPS, problem, small_network

RUNS: Final = 3
LATENTS: Final = ((2, 8, 8), (4, 64, 64))  # next to nothing, where the host's arithmetic remains, and SD at 512 x 512
ACCELERATED: Final = (
    "adaptive-diffusion", "auto", "easycache", "guidance", "sada", "sada-released", "seacache", "uniform",
)  # fmt: skip
_METHODS: Final = ("plan", "estimate", "revise", "observe", "carried_out", "learn_guidance", "guidance")


class Clocked:
    """An accelerator whose runs add up the process time that they take, except in the network.

    Attributes:
        seconds: The time.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator, self.seconds = accelerator, 0.0

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> ForwardingRun:
        """Starts a run of the accelerator."""
        run = ForwardingRun(begin_run(self._accelerator, solver, shape, seams=seams), shape[0])
        for name in _METHODS:
            setattr(run, name, self._clocked(getattr(run, name)))
        return run

    def _clocked(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            before = process_time()
            made = act(*args)
            self.seconds += process_time() - before
            return made

        return timed


@dataclass(frozen=True)
class Gaussian:
    """The denoiser of independent normal variables of standard deviations (B, 1, 1, 1), one for each sample.

    It has two branches of guidance; data of the negative branch are half as wide.
    """

    solver: Solver
    deviation: Tensor
    has_negative: ClassVar[bool] = True

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(len(x)), None)

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam | None) -> Tensor:
        """x0 of the samples `rows`, with guidance."""
        return self.evaluate_branches(x, step, rows, seam)[0]

    def evaluate_branches(
        self, x: Tensor, step: int, rows: Sequence[int], seam: Seam | None
    ) -> tuple[Tensor, Tensor]:
        """x0 of the samples `rows` with guidance, and that of the conditional branch."""
        own, other = (self._x0(x, step, rows, width) for width in (1.0, 0.5))
        return other + 1.5 * (own - other), own

    def evaluate_conditional(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam | None) -> Tensor:
        """x0 of the conditional branch."""
        return self._x0(x, step, rows, 1.0)

    def _x0(self, x: Tensor, step: int, rows: Sequence[int], width: float) -> Tensor:
        node, variance = self.solver.nodes[step], (width * taken(self.deviation, rows)) ** 2
        return x * (node.alpha * variance / (node.alpha**2 * variance + node.sigma**2))


def milliseconds(name: str, batch: int, latent: Sequence[int]) -> float:
    """Milliseconds per step in an accelerator for latents (batch, *latent), the least of `RUNS` runs."""
    solver, _, _ = problem("unet", 1, small_network("unet"), torch.clone)
    noise = torch.randn(batch, *latent, generator=torch.Generator().manual_seed(0))
    denoise, found = Gaussian(solver, torch.logspace(-1, 0.5, batch).view(-1, 1, 1, 1)), []
    for _ in range(RUNS):
        clocked = Clocked(make_accelerator(name))
        sample(solver, denoise, noise, clocked)
        found.append(1000 * clocked.seconds / solver.n_evals)
    return min(found)


def copying(batch: int, latent: Sequence[int]) -> float:
    """Milliseconds in which latents (batch, *latent) are copied, the least of several times."""
    noise, found = torch.randn(batch, *latent), []
    for _ in range(RUNS * STEPS):
        before = process_time()
        noise.clone()
        found.append(1000 * (process_time() - before))
    return min(found)


def table(latent: Sequence[int]) -> Iterator[str]:
    """Yields the lines of the Markdown table for one size of latents."""
    rows: dict[str, Callable[[int], float]] = {
        f"`{name}`": partial(milliseconds, name, latent=latent) for name in ACCELERATED
    }
    rows["copying the batch once"] = partial(copying, latent=latent)
    yield f"| latents of {' x '.join(map(str, latent))} | {' | '.join(f'batch {batch}' for batch in BATCHES)} |"
    yield f"|---{'|---' * len(BATCHES)}|"
    for name, measure in rows.items():
        yield f"| {name} | {' | '.join(f'{measure(batch):.2f}' for batch in BATCHES)} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for latent in LATENTS:
        for line in (*table(latent), ""):
            print(line, flush=True)
