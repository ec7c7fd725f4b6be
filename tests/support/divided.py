"""Context parallelism of two processes, here threads."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Barrier, Thread
from typing import Any

import torch
from torch import Tensor

from sadaflow.models import Seam, call_through
from sadaflow.parallel.context import ContextSeam


@dataclass
class Threads:
    """What the threads of a run share."""

    count: int
    barrier: Barrier
    slots: list[Any] = field(default_factory=list)


@dataclass
class ThreadAxis:
    """An `Axis` whose processes are threads."""

    threads: Threads
    rank: int

    @property
    def size(self) -> int:
        return self.threads.count

    def gather(self, tensor: Tensor) -> Tensor:
        self.threads.slots[self.rank] = tensor
        self.threads.barrier.wait(60)
        gathered = torch.stack(self.threads.slots)
        self.threads.barrier.wait(60)
        return gathered


def in_two_processes(evaluate: Callable[[Seam], Tensor], inner: Seam = call_through) -> Tensor:
    """The output of an evaluation whose tokens are divided, which is that of both processes.

    Args:
        evaluate: Evaluates a network through a seam.
        inner: The accelerator's seam.
    """
    threads = Threads(2, Barrier(2), [None, None])
    outputs: list[Any] = [None, None]

    def run(rank: int) -> None:
        seam = ContextSeam(ThreadAxis(threads, rank), inner)  # type: ignore[arg-type]
        with torch.no_grad():
            outputs[rank] = evaluate(seam)
        assert seam.met

    workers = [Thread(target=run, args=(rank,)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert torch.equal(outputs[0], outputs[1])
    found: Tensor = outputs[0]
    return found
