"""Kernel launches and waits per step of the loop, on a simulated device: never more than docs/performance.md says.

The table is a bound that may only fall: a change that lowers a number updates the table.
"""

import re
from pathlib import Path

import pytest
import torch

from sadaflow.bench.gpu.launches import BATCHES, NONE, PRUNING, Launches, cases, measure
from sadaflow.device.readback import Readback
from sadaflow.device.simulated import DEVICE, DeviceTensor, Simulated, move, moved

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
NUMBER = r" ([\d.]+) \|"
LINE = re.compile(rf"^\| (unet|flux), `([^`]+)` \|{NUMBER * (len(BATCHES) + 4)}$")
EVERY = pytest.mark.parametrize(("kind", "name"), cases(), ids=[", ".join(case) for case in cases()])


def recorded() -> dict[tuple[str, str], list[float]]:
    """The page's table by network and accelerator: launches by batch, waits (mean and most), copies to and from."""
    lines = PAGE.read_text("utf-8").splitlines()
    return {(found[1], found[2]): [*map(float, found.groups()[2:])] for line in lines if (found := LINE.match(line))}


RECORDED = recorded()


def test_the_page_has_a_bound_for_every_accelerator() -> None:
    assert set(RECORDED) == set(cases())


@pytest.mark.parametrize("batch", [1, 16])
@EVERY
def test_launches_and_reads_do_not_rise(kind: str, name: str, batch: int) -> None:
    found, bounds = measure(kind, name, batch), RECORDED[kind, name]
    launches, (reads, _, fetches, sends) = bounds[BATCHES.index(batch)], bounds[len(BATCHES) :]
    # Samples decide by numbers whose last bits differ between processors, and the table is rounded.
    assert found.launches <= 1.05 * launches + 0.05
    assert found.reads <= 1.05 * reads and found.most_reads <= 1
    assert found.fetches <= 1.05 * fetches + 0.05 and found.sends <= 1.05 * sends + 0.05


@pytest.mark.slow
@EVERY
def test_samples_that_are_decided_alike_launch_as_much_as_two(kind: str, name: str) -> None:
    two, many = measure(kind, name, 2, alike=True), measure(kind, name, 16, alike=True)
    # The network's last bits depend on the batch size, and a few decisions on them.
    assert many.launches == pytest.approx(two.launches, rel=0.1) and many.most_launches == two.most_launches
    assert many.sends <= two.sends + 1


@pytest.mark.parametrize(
    ("kind", "name", "least"), [("unet", "auto", 64), ("flux", PRUNING, 64), ("flux", "seacache", 16)]
)
def test_more_samples_that_are_decided_apart_launch_hardly_more(kind: str, name: str, least: int) -> None:
    """Gaps are at most `max_skips` long, and tokens are pruned in at most 16 groups: both are met by 64 samples."""
    few, many = measure(kind, name, least), measure(kind, name, 4 * least)
    assert many.launches <= 1.05 * few.launches and many.most_reads <= 1


@pytest.mark.parametrize("kind", ["unet", "flux"])
def test_the_plain_loop_does_not_depend_on_the_batch(kind: str) -> None:
    """The check that x0 is finite is its one read a step."""
    found = {batch: measure(kind, NONE, batch) for batch in (1, 16)}
    assert len(set(found.values())) == 1
    assert found[1].most_reads == 1 and found[1].sends == 0


@pytest.mark.parametrize("kind", ["unet", "flux"])
def test_networks_wait_for_nothing(kind: str) -> None:
    """Counted inside too, a network reads nothing, and launches no more for a larger batch."""
    measure(kind, NONE, 1, network=True)  # Flux's table of rotations is kept from then on
    inside: list[Launches] = [measure(kind, NONE, batch, network=True) for batch in (1, 4)]
    assert inside[0] == inside[1]
    assert inside[0].most_reads == 1 and inside[0].launches > 100


def test_what_is_counted() -> None:
    x = moved(torch.arange(6.0).view(2, 3))
    with Simulated() as device:
        y = (x * 2).add_(1)  # 2 launches
        part = y.t()[1:].unsqueeze(0)  # views
        torch.empty_like(x)
        total = part.sum().item()  # 1 launch, 1 read
        rows = (y[:, 0] > 1).nonzero()  # 1 launch, 1 read
        kept = y[y > 3].tolist()  # 1 launch, a read to index and one for the list
        index = torch.tensor([1, 0]).to(DEVICE)  # 1 copy from the host
        swapped = y.index_select(0, index)  # 1 launch
        first, second = Readback(y.sum()), Readback(x.sum())  # 2 launches, 2 copies that do not wait
        assert second.read() == [15.0] and first.read() == [36.0]  # 1 read: the first has arrived before the second
        assert second.read() == [15.0]
    assert dict(device.counts) == {"launch": 8, "read": 5, "send": 1, "fetch": 2}
    expected = torch.arange(6.0).view(2, 3) * 2 + 1
    assert total == expected[:, 1:].sum() and kept == expected[expected > 3].tolist()
    assert torch.equal(rows.cpu(), torch.tensor([[1]])) and torch.equal(swapped.cpu(), expected[[1, 0]])
    assert torch.equal(x.cpu(), torch.arange(6.0).view(2, 3)) and type(x.cpu()) is torch.Tensor


def test_numbers_from_pageable_memory_are_waited_for() -> None:
    x = moved(torch.arange(6.0).view(3, 2))
    with Simulated() as device:
        part = x[[2, 0]]  # 1 wait, 1 launch
        part[:, [1]] = torch.tensor([7.0], device=x.device)  # 2 waits, 1 launch
    assert device.counts["wait"] == 3 and device.counts["read"] == 0
    assert torch.equal(part.cpu(), torch.tensor([[4.0, 7.0], [0.0, 7.0]]))


def test_devices_are_not_mixed() -> None:
    x = moved(torch.ones(3))
    with Simulated():
        with pytest.raises(ValueError, match="mixes tensors of the device with one of the host"):
            x + torch.ones(3)
        assert torch.equal((x + torch.tensor(1.0)).cpu(), torch.full((3,), 2.0))  # numbers may come from the host
    assert isinstance(move(torch.nn.Linear(2, 2)).weight, DeviceTensor)
