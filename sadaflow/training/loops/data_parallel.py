"""Data-parallel training on the cores of one machine: one single-threaded process per core.

Threads of one process wait for each other in every operation, processes only once per step. On a machine with other
load, processes are twice as fast.
"""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn


@dataclass(frozen=True)
class Team:
    """The workers of a training, seen from one of them.

    Attributes:
        rank: Number of this worker, from 0.
        size: Number of workers.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this worker writes the averages, the log and the checkpoints."""
        return self.rank == 0

    def average_gradients(self, modules: Iterable[nn.Module]) -> None:
        """Replace the gradients by their means over the workers."""
        if self.size == 1:
            return
        gradients = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
        flat = torch._utils._flatten_dense_tensors(gradients)
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, torch._utils._unflatten_dense_tensors(flat, gradients), strict=True):
            gradient.copy_(mean)

    def agree(self, value: float) -> float:
        """The leader's value on all workers."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        torch.distributed.broadcast(shared, 0)
        return float(shared)

    def generator(self, seed: int, step: int) -> torch.Generator:
        """The generator for a step of this worker; it depends on nothing else, so a resumed run draws alike."""
        return torch.Generator().manual_seed((seed * 1_000_003 + step) * 64 + self.rank)


def run_team(size: int, work: Callable[..., None], *arguments: Any) -> None:
    """Call `work(team, *arguments)` in `size` processes and wait for all of them."""
    if size == 1:
        work(Team(), *arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = (Path(folder) / "rendezvous").as_uri()
        torch.multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
            _worker, (size, rendezvous, work, arguments), nprocs=size
        )


def _worker(rank: int, size: int, rendezvous: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=size)
    try:
        work(Team(rank, size), *arguments)
    finally:
        torch.distributed.destroy_process_group()


def mean_over(team: Team, value: Tensor) -> float:
    """Mean of a scalar over the workers."""
    if team.size == 1:
        return float(value.detach())
    shared = value.detach().clone()
    torch.distributed.all_reduce(shared)
    return float(shared) / team.size
