"""The laws that accelerators must obey, each measured on exact denoisers."""

from collections.abc import Iterable
from itertools import product
from typing import Final

import torch

from ..examination import BASE, Examination
from ..finding import Measure
from . import accuracy, device, purity, running, samples, work

Cases = Iterable[tuple[object, ...]]


def _runs(on: Examination) -> Cases:
    """Every schedule and network, with each of `BASE` on the first schedule and its second on the others."""
    for schedule, network in product(on.schedules, on.networks):
        for solver in BASE if schedule == on.schedules[0] else BASE[1:]:
            yield solver, network, schedule


def _networks_and_schedules(on: Examination) -> Cases:
    """Every network on the first schedule, and the quickest on the others."""
    yield from ((network, on.schedules[0]) for network in on.networks)
    yield from ((on.quick, schedule) for schedule in on.schedules[1:])


def _networks(on: Examination) -> Cases:
    return ((network,) for network in on.networks)


def _perturbed(on: Examination) -> Cases:
    for network, schedule in _networks_and_schedules(on):
        yield network, schedule, 9 if network == on.quick else 4


def _shapes(on: Examination) -> Cases:
    """Networks let no seam in at states that are not images."""
    for shape, network in product(running.SHAPES, on.networks):
        if len(shape) == 4 or network == on.quick:
            yield shape, network


FIRST: Final = (
    Measure("networks", running.networks),
    Measure("runs", running.runs, lambda on: ((solver,) for solver in BASE)),
)
"""If these do not hold, the others would repeat it."""

LAWS: Final = (
    Measure("identity", accuracy.identity, _runs),
    Measure("full is full", accuracy.full_is_full, _runs),
    Measure("accuracy", accuracy.accuracy, _runs),
    Measure("schedules", accuracy.schedules, _networks, "two schedules on which a step is saved"),
    Measure("inputs kept", purity.inputs, _runs),
    Measure("accounting", work.accounting, _runs),
    Measure(
        "batch invariance", samples.batch, _networks_and_schedules,
        "samples that decide apart, or decisions that no data changes",
    ),
    Measure("one sample changed", samples.perturbed, _perturbed, "a changed sample that decides otherwise"),
    Measure("solvers", accuracy.solvers, lambda on: ((name,) for name in on.solvers)),
    Measure("shapes", running.shapes, _shapes),
    Measure("number of steps", running.step_counts, lambda on: (
        (steps, on.quick) for steps in (on.steps // 2, 2 * on.steps))),
    Measure("pure noise", accuracy.pure_noise, lambda on: ((solver,) for solver in BASE)),
    Measure("few steps", running.few_steps),
    Measure("determinism", purity.determinism),
    Measure("state", purity.state, _networks),
    Measure("dtype", purity.dtypes, lambda on: product((torch.float32, torch.float16, torch.bfloat16), on.networks)),
    Measure("rounding", accuracy.rounding, lambda on: ((name,) for name in on.schedules)),
    Measure("memory", work.memory),
    Measure("host reads", device.host_reads, _networks),
    Measure("launches", device.launches, _networks),
)  # fmt: skip
