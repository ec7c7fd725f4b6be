"""Measures how the time of an accelerator outside the network grows with the batch, on one thread of the CPU.

    python -m sadaflow.bench.gpu.scaling

prints the tables of docs/performance.md: process time per step in milliseconds, the least of several runs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import process_time
from typing import Any, Final

import torch
from torch import Tensor

from sadaflow.models import Seam
from sadaflow.solvers import Solver

from ...accelerators import Accelerator
from ...accelerators.forwarding import ForwardingRun, begin_run
from ...sampling.denoiser import Denoise
from ...sampling.loop import sample
from .launches import BATCHES, NONE, STEPS, accelerator_named, cases, problem, small_network

RUNS: Final = 3
LATENT: Final = (4, 64, 64)  # of Stable Diffusion at 512 x 512
SKIPPING: Final = ("adaptive-diffusion", "auto", "easycache", "sada", "sada-released", "seacache", "uniform")
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
    """The denoiser of independent normal variables of standard deviations (B, 1, 1, 1), one for each sample."""

    solver: Solver
    deviation: Tensor

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(len(x)), None)

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam | None) -> Tensor:
        """x0 of the samples `rows`."""
        node, variance = self.solver.nodes[step], self.deviation[list(rows)] ** 2
        return x * (node.alpha * variance / (node.alpha**2 * variance + node.sigma**2))


def milliseconds(solver: Solver, denoise: Denoise, noise: Tensor, accelerator: Accelerator) -> float:
    """Milliseconds per step in the accelerator, the least of `RUNS` runs."""
    found = []
    for _ in range(RUNS):
        clocked = Clocked(accelerator)
        sample(solver, denoise, noise, clocked)
        found.append(1000 * clocked.seconds / solver.n_evals)
    return min(found)


def small(name: str, batch: int) -> float:
    """Milliseconds per step for latents of 128 numbers on a small network: the arithmetic of the host."""
    kind = next(kind for kind, other in cases() if other == name)
    accelerator = accelerator_named(name)
    assert accelerator is not None
    return milliseconds(*problem(kind, batch, small_network(kind), torch.clone), accelerator)


def large(name: str, batch: int) -> float:
    """Milliseconds per step for latents of `LATENT` that are independent normal variables."""
    solver, _, _ = problem("unet", 1, small_network("unet"), torch.clone)
    noise = torch.randn(batch, *LATENT, generator=torch.Generator().manual_seed(0))
    deviation = torch.logspace(-1, 0.5, batch).view(-1, 1, 1, 1)
    accelerator = accelerator_named(name)
    assert accelerator is not None
    return milliseconds(solver, Gaussian(solver, deviation), noise, accelerator)


def copying(batch: int) -> float:
    """Milliseconds in which a batch of `LATENT` is copied, the least of `RUNS` times `STEPS` copies."""
    batch_of, found = torch.randn(batch, *LATENT), []
    for _ in range(RUNS * STEPS):
        before = process_time()
        batch_of.clone()
        found.append(1000 * (process_time() - before))
    return min(found)


def tables() -> Iterator[str]:
    """Yields the lines of both Markdown tables."""
    names = [name for name in dict.fromkeys(name for _, name in cases()) if name != NONE]
    yield from _table("accelerator, latents of 128 numbers", names, small)
    yield ""
    title = f"accelerator, latents of {' x '.join(map(str, LATENT))}"
    yield from _table(title, SKIPPING, large)
    yield f"| copying the batch once | {' | '.join(f'{copying(batch):.2f}' for batch in BATCHES)} |"


def _table(title: str, names: Sequence[str], measure: Callable[[str, int], float]) -> Iterator[str]:
    yield f"| {title} | {' | '.join(f'batch {batch}' for batch in BATCHES)} |"
    yield f"|---{'|---' * len(BATCHES)}|"
    for name in names:
        yield f"| `{name}` | {' | '.join(f'{measure(name, batch):.2f}' for batch in BATCHES)} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in tables():
        print(line, flush=True)
