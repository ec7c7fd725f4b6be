"""Laws on cost: evaluations, memory, and what a device would wait for."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod

from ...accelerators.base import Mode
from ..examination import Examination
from ..finding import Finding
from ..networks import Plain, Work
from ..recording import living_bytes
from ..runs import SAMPLES, SHAPE, Case, Outcome

_EXACT = 1e-8


def accounting(on: Examination, solver: str, network: str, schedule: str) -> Iterator[Finding]:
    """`Stats.nfe` and the modes equal the work that the network did."""
    fast, where = on.made(Case(solver, network, schedule, verify=True)), f"[{solver}, {network}, {schedule}]"
    nfe = fast.sampled.stats.nfe
    if isinstance(fast.denoiser, Plain):
        calls = fast.denoiser.calls
        good = nfe == [float(calls)] * SAMPLES
        yield Finding("accounting", where, f"{calls} calls", f"nfe {nfe}", good, fast.saves)
        return
    late = fast.denoiser.late
    yield Finding("accounting", f"{where} outside", f"{late} layers computed", "none outside of evaluations", not late)
    yield from _planned(fast, where)
    yield from _shares(fast, where)


def _planned(fast: Outcome, where: str) -> Iterator[Finding]:
    """Every sample went through the network once at each step at which its mode evaluates, and never else."""
    modes = ((step, row, mode) for row, line in enumerate(fast.modes) for step, mode in enumerate(line))
    planned = {(step, row) for step, row, mode in modes if Mode(mode).evaluates}
    done = Counter((item.step, item.row) for item in getattr(fast.denoiser, "work", ()))
    odd = sorted(key for key in planned | done.keys() if done[key] != (key in planned))
    found = f"step {odd[0][0]}, sample {odd[0][1]}: {done[odd[0]]} evaluations" if odd else f"{len(planned)} as planned"
    yield Finding("accounting", f"{where} calls", found, "one for each that the modes name", not odd, fast.saves)


def _shares(fast: Outcome, where: str) -> Iterator[Finding]:
    work: Sequence[Work] = getattr(fast.denoiser, "work", ())
    nfe, modes = fast.sampled.stats.nfe, fast.modes

    def did(mode: str) -> list[Work]:
        return [item for item in work if modes[item.row][item.step] == mode]

    partly = {(item.step, item.row): item.share for item in [*did("cached"), *did("conditional")]}
    rows = [sum(partly.get((item.step, row), 1.0) for item in work if item.row == row) for row in range(SAMPLES)]
    full, tokens, cached, halves = (
        [item.share for item in did(mode)] for mode in ("full", "tokens", "cached", "conditional")
    )
    same = all(abs(row - own) < _EXACT for row, own in zip(rows, nfe, strict=True))
    for what, found, expected, good in (
        ("rows", _rounded(rows), f"nfe {_rounded(nfe)}", same),
        ("full", f"tokens computed {_span(full)} times", "once each", all(share == 1 for share in full)),
        ("tokens", f"at most {max(tokens, default=0.0):.2f} of the network", "less than all on average",
            max(tokens, default=0.0) <= 1),
        ("cached", f"at most {max(cached, default=0.0):.2f} of the network", "less than all",
            max(cached, default=0.0) < 1),
        ("conditional", f"{_span(halves)} of the network", "half of it", all(share == 0.5 for share in halves)),
    ):  # fmt: skip
        yield Finding("accounting", f"{where} {what}", str(found), expected, good, fast.saves)


def memory(on: Examination) -> Iterator[Finding]:
    """The memory that a run holds does not grow with the number of steps, and nothing is left of it afterwards.

    It may vary a little: rows that share a storage are counted once, and whether they do depends on the decisions.
    """
    latents = SAMPLES * prod(SHAPE) * 8
    few, many = (on.run(Case(steps=steps), memory=True).notes.bytes_held / latents for steps in (50, 200))
    found = f"{few:.1f} batches of latents at 50 steps, {many:.1f} at 200"
    yield Finding("memory", "[50, 200 steps]", found, "at most half as much again", many <= 1.5 * few + 1)
    left = []
    for _ in range(3):
        on.run(Case(steps=on.short))
        left.append(living_bytes() / latents)
    found = f"{left[2] - left[1]:.1f} batches of latents"
    yield Finding("memory", "[left by a run]", found, "none", left[2] - left[1] < 1)


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]


def _span(values: Sequence[float]) -> str:
    return "none" if not values else "-".join(f"{value:g}" for value in sorted({min(values), max(values)}))
