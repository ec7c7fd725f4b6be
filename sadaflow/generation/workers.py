"""This process among those that torchrun started: what of the work is its own, and on which device.

The processes share a folder and hear of each other once, when the first has opened it. Nobody waits for anybody
afterwards, so that one that dies holds up no other.
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
    """Process `rank` of `size`, the `local_rank`-th of its machine; `start` counts torchrun's restarts."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    start: int = 0

    @classmethod
    def current(cls) -> Self:
        """As torchrun's environment says; without it, the only process."""

        def number(name: str, default: int) -> int:
            return int(os.environ.get(name, default))

        rank, size, local = number("RANK", 0), number("WORLD_SIZE", 1), number("LOCAL_RANK", 0)
        return cls(rank, size, local, number("TORCHELASTIC_RESTART_COUNT", 0))

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of `count` pieces of work are this process's."""
        return range(self.rank, count, self.size)

    def device(self, name: str | None) -> str | None:
        """The device for what was asked for: each process of a machine has a GPU of its own."""
        ours = self.size > 1 and (name == "cuda" or (name is None and torch.cuda.is_available()))
        return f"cuda:{self.local_rank}" if ours else name

    def lead(self, prepare: Callable[[], object]) -> None:
        """Let the first process `prepare` what all need, and return in all of them when it has.

        Raises in the first what `prepare` raises, in the others ConnectionError.
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
            answer = store.get(key)  # waits for it
        except RuntimeError as error:
            raise ConnectionError(f"process {self.rank} heard nothing from process 0: {error}") from error
        if answer != b"ready":
            raise ConnectionError(f"process {self.rank} stops, since process 0 could not open the folder")
