"""Results of measuring a law, with whether the measurement could have failed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sadaflow.solvers.checks.report import Law

from .limit import OutOfTime, limited


@dataclass(frozen=True)
class Finding:
    """One result.

    Attributes:
        name: Name of the law.
        where: What it was measured on.
        measured: What was measured.
        expected: What was expected.
        passed: Whether they agree.
        bites: Whether a wrong accelerator could have failed here; a law none of whose results bites is vacuous.
    """

    name: str
    where: str
    measured: str
    expected: str
    passed: bool
    bites: bool = True

    @property
    def law(self) -> Law:
        """As a line of the report."""
        return Law(self.name, self.where, self.measured, self.expected, self.passed)


Measured = Finding | Iterable[Finding]


@dataclass(frozen=True)
class Measure:
    """How a law is measured.

    Attributes:
        name: Name of the law.
        measure: Called as `measure(examination, *case)` for each case.
        cases: Returns the cases of an examination.
        needs: What a run must show for the law to bite, for the report of a vacuous law.
    """

    name: str
    measure: Callable[..., Measured]
    cases: Callable[[Any], Iterable[tuple[Any, ...]]] = field(default=lambda on: [()])
    needs: str = "a step that is not evaluated in full"

    def findings(self, on: Any, seconds: float) -> Iterator[Finding]:
        """The results of all cases; a failed one for a case that raises, or that takes longer than `seconds`."""
        for case in self.cases(on):
            yield from self._guarded(on, case, seconds)

    def _guarded(self, on: Any, case: tuple[Any, ...], seconds: float) -> list[Finding]:
        where = "[" + ", ".join(map(str, case)) + "]" if case else "[]"
        try:
            with limited(seconds):
                found = self.measure(on, *case)
                return [found] if isinstance(found, Finding) else list(found)
        except OutOfTime:
            return [Finding(self.name, where, f"not finished after {seconds:g} s", "an end", False)]
        except Exception as failure:  # an accelerator may raise anything
            return [Finding(self.name, where, f"{type(failure).__name__}: {failure}", "no error", False)]


def vacuous(measure: Measure, found: Iterable[Finding], excused: bool) -> Law | None:
    """A failed line for a law that was measured and could not have failed anywhere; one that passes if excused."""
    measured = list(found)
    if not measured or any(finding.bites or not finding.passed for finding in measured):
        return None
    what = f"vacuous{' (excused)' if excused else ''}: no run showed it"
    return Law(measure.name, "[all]", what, measure.needs, excused)
