"""Context parallelism of the transformer families: two processes, here threads, compute what one computes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import torch
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.families import Request
from sadaflow.models import call_through
from sadaflow.parallel.context import ContextSeam
from support.checkpoints_chroma import chroma
from support.checkpoints_flux2 import flux2_klein
from support.checkpoints_sd3 import sd3
from support.checkpoints_z_image import z_image
from support.flux import relative

MAKERS: dict[str, Callable[[Path], object]] = {
    "chroma": chroma,
    "flux2": flux2_klein,
    "sd3": lambda folder: sd3(folder, "3.5 medium"),
    "z_image": z_image,
}
PROMPTS = ["a red apple", "a grinning face on a very long wooden table"]


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


@pytest.mark.parametrize("family", MAKERS)
def test_two_processes_compute_what_one_computes(family: str, tmp_path: Path) -> None:
    MAKERS[family](tmp_path / "made")
    pipe = Pipeline.from_pretrained(tmp_path / "made")
    network = pipe.backbone
    request = Request(prompt=PROMPTS, guidance=1.0, max_sequence_length=96)
    given = network.prepare(**pipe.family.condition(request).conditional)
    assert ("mask" in given) == (family in ("chroma", "z_image"))
    time = network.prepare_times(torch.tensor([[500.0]]), given)[0]
    x = torch.randn(2, pipe.family.latent_channels, 12, 10, generator=torch.Generator().manual_seed(0))
    threads = Threads(2, Barrier(2), [None, None])
    outputs: list[Any] = [None, None]

    def run(rank: int) -> None:
        seam = ContextSeam(ThreadAxis(threads, rank), call_through)  # type: ignore[arg-type]
        with torch.no_grad():
            outputs[rank] = network.evaluate(x, time, given, seam)
        assert seam.met

    with torch.no_grad():
        plain = network.evaluate(x, time, given)
    workers = [Thread(target=run, args=(rank,)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert torch.equal(outputs[0], outputs[1])
    assert relative(outputs[0], plain) < 1e-5
