"""Laws on state: a run depends on its settings and inputs alone, and changes nothing else."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from sadaflow.sampling.results import Sampled, Step

from ...accelerators.base import Accelerator
from ..examination import Examination
from ..finding import Finding
from ..recording import Watched, seeded
from ..runs import Case, Outcome
from ..turns import alternate

_OTHER = Case("euler", rows=(1,), shape=(1, 4, 5))


def inputs(on: Examination, solver: str, network: str, schedule: str) -> Finding:
    """No tensor that the run was given changes during the run."""
    fast = on.made(Case(solver, network, schedule, verify=True))
    found = f"{fast.notes.changed} tensors changed"
    return Finding("inputs kept", f"[{solver}, {network}, {schedule}]", found, "none", fast.notes.changed == 0)


def determinism(on: Examination) -> Iterator[Finding]:
    """Two runs under different global seeds, at different speeds, are equal and draw nothing."""
    def slow(step: Step) -> None:
        time.sleep(0.02 if step.index % 7 == 3 else 0.001)

    first, second = on.run(Case(), seed=0), on.run(Case(), seed=1, observer=slow)
    equal, drew = _same(first, second), first.seeds_used or second.seeds_used
    found = f"{'equal' if equal else 'another result'}{', drew from a global generator' if drew else ''}"
    where = "[two global seeds, two speeds]"
    yield Finding("determinism", where, found, "equal, nothing drawn", equal and not drew, first.saves)
    changed = first.notes.settings_changed
    found = changed[0] if changed else "none changed"
    yield Finding("determinism", "[settings of torch]", found, "none changed", not changed, first.saves)


def state(on: Examination, network: str) -> Iterator[Finding]:
    """One object gives the results of new objects, whatever other runs are made before, after and in between."""
    case, other = Case(network=network, steps=on.short), replace(_OTHER, network=network, steps=on.short + 7)
    alone, beside = on.made(case), on.made(other)
    shared = on.factory()
    disturbances: dict[str, Callable[[], list[tuple[Outcome, Case]]]] = {
        "before and after": lambda: _in_turn(on, shared, case, other),
        "after one that was abandoned": lambda: _abandoned(on, shared, case),
        "another run inside": lambda: _inside(on, shared, case, other),
    }
    for what, runs in disturbances.items():
        pairs = [(found, alone if wanted is case else beside) for found, wanted in runs()]
        good = all(_same(found, expected) for found, expected in pairs)
        found = "equal" if good else "another result"
        yield Finding("state", f"[{network}, one object, {what}]", found, "those of a new object", good, alone.saves)
    for what, objects in (("one object", [shared, shared]), ("two objects", [on.factory(), on.factory()])):
        for with_what, second in (("the same shape", replace(case, loud=(0.5,) * len(case.rows))), ("another", other)):
            expected = on.made(second)
            one, two = _alternating(on, objects, case, second)
            good = _equal(one, alone) and _equal(two, expected)
            found, where = "equal" if good else "another result", f"[{network}, {what}, steps in turns, {with_what}]"
            yield Finding("state", where, found, "those of a new object", good, alone.saves)


def _in_turn(on: Examination, shared: Accelerator, case: Case, other: Case) -> list[tuple[Outcome, Case]]:
    return [(on.run(each, shared), each) for each in (other, case, case)]


def _abandoned(on: Examination, shared: Accelerator, case: Case) -> list[tuple[Outcome, Case]]:
    def stop(step: Step) -> None:
        if step.index == step.total // 2:
            raise InterruptedError

    try:
        on.run(case, shared, observer=stop)
    except InterruptedError:
        pass
    return [(on.run(case, shared), case)]


def _inside(on: Examination, shared: Accelerator, case: Case, other: Case) -> list[tuple[Outcome, Case]]:
    disturbed: list[Outcome] = []

    def interrupt(step: Step) -> None:
        if step.index == step.total // 2:
            disturbed.append(on.run(other, shared))

    return [(on.run(case, shared, observer=interrupt), case), *((outcome, other) for outcome in disturbed)]


def _alternating(on: Examination, objects: list[Accelerator], *cases: Case) -> list[Sampled]:
    def job(accelerator: Accelerator, case: Case) -> Callable[[Callable[[Step], None]], Sampled]:
        return lambda hand_over: on.sampled(case, Watched(accelerator), observer=hand_over)[0]

    with seeded(0):
        return alternate([job(accelerator, case) for accelerator, case in zip(objects, cases, strict=True)])


def dtypes(on: Examination, dtype: torch.dtype, network: str) -> Iterator[Finding]:
    """Estimates have the dtype, device and shape of their states, and the end is finite."""
    outcome, where = on.run(Case(dtype=dtype, network=network)), f"[{dtype}, {network}]"
    wrong = [
        f"{tuple(x0.shape)} {x0.dtype}"
        for x0, x in outcome.notes.estimates
        if (x0.shape, x0.dtype, x0.device) != (x.shape, x.dtype, x.device)
    ]
    found = wrong[0] if wrong else "those of x"
    yield Finding("dtype", where, found, "shape, dtype and device of x", not wrong, outcome.saves)
    kept = outcome.x.dtype == dtype and bool(torch.isfinite(outcome.x).all())
    yield Finding("dtype", f"{where} end", f"{outcome.x.dtype}", f"finite {dtype}", kept, outcome.saves)


def _same(first: Outcome, second: Outcome) -> bool:
    return _equal(first.sampled, second)


def _equal(sampled: Sampled, outcome: Outcome) -> bool:
    return torch.equal(sampled.x, outcome.x) and sampled.stats.modes == outcome.modes
