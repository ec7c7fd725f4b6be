"""Laws on what a device would do, counted on a simulated one."""

from collections.abc import Iterator

from ..device import Usage, used
from ..examination import Examination
from ..finding import Finding
from ..runs import SAMPLES, Case

_SMALL, _LARGE = 5, 17
_STEPS = 16
_READS = 1 + 1 / _STEPS  # one a step, and one for the last states
_GROWTH = 1.25  # of launches, from the small batch to the large one
_SPARE = 1.0


def host_reads(on: Examination, network: str) -> Iterator[Finding]:
    """The host waits for the device once a step at most, and for the last states."""
    for size in (_SMALL, _LARGE):
        usage = _usage(on, network, size)
        found, where = f"{usage.reads:.2f} reads and {usage.waits:.2f} waits a step", f"[{network}, batch {size}]"
        good = usage.reads + usage.waits <= _READS
        yield Finding("host reads", where, found, f"at most {_READS:.2f} in all", good, usage.saves)


def launches(on: Examination, network: str) -> Finding:
    """Kernel launches do not grow with the batch.

    The larger batch holds the same kinds of samples, so that the same decisions are made.
    """
    small, large = (_usage(on, network, size) for size in (_SMALL, _LARGE))
    found = f"{small.launches:.1f} a step at batch {_SMALL}, {large.launches:.1f} at {_LARGE}"
    good = large.launches <= _GROWTH * max(small.launches, 0.0) + _SPARE
    return Finding("launches", f"[{network}]", found, "no more for a larger batch", good, large.saves)


def _usage(on: Examination, network: str, size: int) -> Usage:
    steps = next(count for count in (_STEPS, on.steps) if on.begins(count))
    case = Case(network=network, rows=tuple(row % SAMPLES for row in range(size)), steps=steps)
    if case not in on.usage:
        on.usage[case] = used(on, case)
    return on.usage[case]
