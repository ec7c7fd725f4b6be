"""Laws on the samples of a batch: each is decided and sampled as if it were alone."""

from collections.abc import Iterator, Sequence

from ..examination import Examination, largest
from ..finding import Finding
from ..runs import Case, Outcome

BATCHES = (1, 2, 9, 33)
_OTHERS = 21  # number of the sample that takes the place of a perturbed one; hardness follows from it modulo 4
_LOUD = 30.0


def batch(on: Examination, network: str, schedule: str) -> Iterator[Finding]:
    """A sample has the same decisions and the same end alone, in batches of any size, and in a reordered batch."""
    def case(rows: Sequence[int]) -> Case:
        return Case(network=network, schedule=schedule, rows=tuple(rows))

    size = BATCHES[-1] if network == on.quick else BATCHES[-2]
    together = on.made(case(range(size)))
    parts = [[0], [1], [2], [3], [0, 1], list(reversed(range(9)))]
    others: set[int] = set()
    worst, distinct = 0.0, set()
    for rows in parts:
        part = on.made(case(rows))
        others |= {row for row, modes in zip(rows, part.modes, strict=True) if modes != together.modes[row]}
        worst = max(worst, largest(part.x - together.x[rows]))
        distinct |= set(map(tuple, part.modes)) if len(rows) == 1 else set()
    by_schedule = not together.apart and len(distinct) == 1 and not decides_by_numbers(together)
    found = f"samples {sorted(others)} decide otherwise" if others else f"x within {worst:.1e}"
    note = ", decided by the schedule for any data" if by_schedule and not others else ""
    good = not others and worst <= on.tolerance
    where, expected = f"[{network}, {schedule}]", f"the same decisions, x within {on.tolerance:g}"
    bites = together.saves and (together.apart or by_schedule)
    yield Finding("batch invariance", where, found + note, expected, good, bites)


def perturbed(on: Examination, network: str, schedule: str, size: int) -> Iterator[Finding]:
    """If one sample of a batch is replaced or made louder, no other sample changes."""
    rows = list(range(size))
    before = on.made(Case(network=network, schedule=schedule, rows=tuple(rows)))
    for place in (0, size - 1):
        other = [_OTHERS + 1 + place % 2 if row == place else row for row in rows]
        for what, case in (
            ("replaced", Case(network=network, schedule=schedule, rows=tuple(other))),
            ("louder", Case(network=network, schedule=schedule, rows=tuple(rows), loud=tuple(
                _LOUD if row == place else 1.0 for row in rows))),
        ):  # fmt: skip
            after = on.made(case)
            rest = [row for row in rows if row != place]
            decide = [row for row in rest if before.modes[row] != after.modes[row]]
            worst = largest((before.x - after.x)[rest])
            found = f"samples {decide} decide otherwise" if decide else f"others within {worst:.1e}"
            good = not decide and worst <= on.tolerance
            expected = f"the same decisions, x within {on.tolerance:g}"
            moved = before.modes[place] != after.modes[place]
            bites = before.saves and (moved or not decides_by_numbers(before))
            where = f"[{network}, {schedule}, {size}, sample {place} {what}]"
            yield Finding("one sample changed", where, found, expected, good, bites)


def decides_by_numbers(outcome: Outcome) -> bool:
    """Whether the run's decisions depend on the data, as far as one run shows."""
    return outcome.apart or outcome.notes.numbers
