"""Divides work among the processes that torchrun started.

Processes share an output folder and synchronise once, after rank 0 has created it. There are no later barriers, so a
crashed process does not block the others.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

import torch
from torch.distributed.rendezvous import rendezvous

PATIENCE: Final = timedelta(hours=1)  # until the first process has opened the folder


@dataclass(frozen=True)
class Shard:
    """This process among all of them.

    Attributes:
        rank: Number of the process, from 0.
        size: Number of processes.
        local_rank: Number of the process on its machine.
        start: Number of torchrun's restarts so far.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    start: int = 0

    @classmethod
    def current(cls) -> Self:
        """The process that torchrun's environment variables describe; without them, the only one."""

        def number(name: str, default: int) -> int:
            return int(os.environ.get(name, default))

        rank, size, local = number("RANK", 0), number("WORLD_SIZE", 1), number("LOCAL_RANK", 0)
        return cls(rank, size, local, number("TORCHELASTIC_RESTART_COUNT", 0))

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, count: int) -> range:
        """Indices of the pieces of work, out of `count`, that this process does."""
        return range(self.rank, count, self.size)

    def device(self, name: str | None) -> str | None:
        """The device to use for the named one: each process of a machine has its own GPU."""
        ours = self.size > 1 and (name == "cuda" or (name is None and torch.cuda.is_available()))
        return f"cuda:{self.local_rank}" if ours else name

    def lead(self, prepare: Callable[[], object]) -> None:
        """Call a function in the first process, and return in all processes after it has returned.

        Args:
            prepare: The function. What it raises is raised in the first process.

        Raises:
            ConnectionError: In the other processes, if the function failed or the first process is gone.
        """
        if self.size == 1:
            prepare()
            return
        store, _, _ = next(rendezvous("env://", timeout=PATIENCE))
        key = f"sadaflow/{self.start}"
        if self.leads:
            try:
                prepare()
            except BaseException:
                store.set(key, "failed")
                raise
            store.set(key, "ready")
            return
        try:
            state = store.get(key)  # waits for it
        except RuntimeError as error:
            raise ConnectionError(f"process {self.rank} received nothing from process 0: {error}") from error
        if state != b"ready":
            raise ConnectionError(f"process {self.rank} stops, since process 0 could not open the folder")
