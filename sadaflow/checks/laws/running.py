"""Laws on runs as such: what is sampled, what is refused, and how runs end."""

import re
from collections.abc import Iterator, Sequence

import torch

from ..examination import Examination
from ..finding import Finding
from ..runs import SAMPLES, SHAPE, SOLVER, Case, Outcome, solver_of

Shape = Sequence[int]
SHAPES = ((1, 2, 5, 8), (3, 4, 6, 6), (2, 3, 2, 4, 4), (2, 7))
"""A single sample of an uneven size, four channels, video, and vectors."""


def networks(on: Examination) -> Iterator[Finding]:
    """Every type of network is sampled, or refused before the second evaluation; at least one is sampled."""
    for network, reason in on.refusals.items():
        found = "sampled" if reason is None else f"refused: {reason}"
        yield Finding("networks", f"[{network}]", found, "sampled, or refused at once", True)
    yield Finding("networks", "[all]", f"{len(on.networks)} sampled", "one or more", bool(on.networks))


def runs(on: Examination, solver: str) -> Finding:
    """A first run ends in finite states, with one mode for each sample at each step."""
    return _finite("runs", f"[{solver}]", on.made(Case(solver)))


def shapes(on: Examination, shape: Shape, network: str) -> Iterator[Finding]:
    """Uneven sizes, video and vectors are sampled as accurately as others, or refused at once."""
    case = Case(network=network, rows=tuple(range(shape[0])), shape=tuple(shape[1:]))
    yield from _ends_well(on, "shapes", f"[{tuple(shape)}, {network}]", case)


def step_counts(on: Examination, steps: int, network: str) -> Iterator[Finding]:
    """Runs of another number of steps are as accurate as others, or refused at once."""
    yield from _ends_well(on, "number of steps", f"[{steps}, {network}]", Case(network=network, steps=steps))


def _ends_well(on: Examination, name: str, where: str, case: Case) -> Iterator[Finding]:
    if (reason := on.refusal(case)) is not None:
        yield Finding(name, where, f"refused: {reason}", "finite, or refused at once", True, bites=False)
        return
    fast = on.made(case)
    if not bool(torch.isfinite(fast.x).all()):
        yield _finite(name, where, fast)
        return
    error, bound = on.accurate(fast, case)
    yield Finding(name, where, f"error {error:.1e}", f"at most {bound:.1e}", error <= bound, fast.saves)


def few_steps(on: Examination) -> Finding:
    """If there are too few steps, `begin` raises a ValueError that names the number it needs.

    The shortest runs that it accepts end in finite states.
    """
    where, shape, expected = "[1 to 30 steps]", torch.Size((SAMPLES, *SHAPE)), "ValueError before the run, or none"
    refused: list[int] = []
    for steps in range(1, 31):
        try:
            on.factory().begin(solver_of(SOLVER, steps), shape, seams=True)
        except ValueError as refusal:
            refused.append(steps)
            if not re.search(r"\d.*(step|evaluation)|(step|evaluation).*\d", str(refusal)):
                return Finding("few steps", where, f"{refusal} at {steps}", "the steps it needs", False)
            continue
        if steps > len(refused) + 3:
            continue
        try:
            good, found = bool(torch.isfinite(on.run(Case(steps=steps)).x).all()), "not finite"
        except Exception as failure:  # an accelerator may raise anything
            good, found = False, f"{type(failure).__name__}: {failure}"
        if not good:
            return Finding("few steps", where, f"{found} at {steps}", expected, False)
    found = f"refuses {refused[0]}-{refused[-1]}" if refused else "takes any number"
    return Finding("few steps", where, found, expected, True)


def _finite(name: str, where: str, outcome: Outcome) -> Finding:
    finite = bool(torch.isfinite(outcome.x).all())
    return Finding(name, where, "to the end" if finite else "not finite", "to a finite end", finite)
