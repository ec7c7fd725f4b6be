"""Laws on what a device would do, counted on a simulated one."""

from collections.abc import Iterator

from ..device import Usage, used
from ..examination import Examination
from ..finding import Finding
from ..runs import SAMPLES, Case

_SMALL, _LARGE = 5, 17
_STEPS = 16
_READS = 1.0
_GROWTH = 1.25  # of launches, from the small batch to the large one
_SPARE = 1.0


def device_reads(on: Examination, network: str) -> Iterator[Finding]:
    """The host waits for the device once a step at most, and launches do not grow with the batch.

    The larger batch holds the same kinds of samples, so that the same decisions are made.
    """
    usage = {size: used(on, _case(on, network, size)) for size in (_SMALL, _LARGE)}
    small, large = usage[_SMALL], usage[_LARGE]
    saves = any(mode != "full" for line in large.sampled.stats.modes for mode in line)
    for size, each in usage.items():
        total = each.reads + each.waits
        found = f"{each.reads:.2f} reads and {each.waits:.2f} waits a step"
        where = f"[{network}, batch {size}]"
        yield Finding("host reads", where, found, f"at most {_READS:g} in all", total <= _READS, saves)
    found = f"{small.launches:.1f} a step at batch {_SMALL}, {large.launches:.1f} at {_LARGE}"
    good = large.launches <= _GROWTH * max(small.launches, 0.0) + _SPARE
    yield Finding("launches", f"[{network}]", found, "no more for a larger batch", good, saves)


def undecided(usage: Usage) -> bool:
    """Whether a run reads numbers of the trajectory, yet decides alike for all samples."""
    return usage.reads > 0 and len(set(map(tuple, usage.sampled.stats.modes))) == 1


def _case(on: Examination, network: str, size: int) -> Case:
    steps = next(count for count in (_STEPS, on.steps) if on.begins(count))
    return Case(network=network, rows=tuple(row % SAMPLES for row in range(size)), steps=steps)
