"""What an examination of a solver, or of an accelerator, found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Law:
    """One law, the place it was examined at, what was measured and what was expected."""

    name: str
    where: str
    measured: str
    expected: str
    passed: bool

    def __str__(self) -> str:
        mark = "pass" if self.passed else "FAIL"
        return f"{mark}  {self.name:<18} {self.where:<24} measured {self.measured}, expected {self.expected}"


@dataclass(frozen=True)
class Report:
    """All laws that were examined; `str(report)` is a table of them, failures last."""

    subject: str
    laws: tuple[Law, ...]

    @property
    def passed(self) -> bool:
        return all(law.passed for law in self.laws)

    @property
    def failures(self) -> tuple[Law, ...]:
        return tuple(law for law in self.laws if not law.passed)

    def __str__(self) -> str:
        lines = [str(law) for law in sorted(self.laws, key=lambda law: not law.passed)]
        kept = len(self.laws) - len(self.failures)
        return "\n".join([f"{self.subject}: {kept} of {len(self.laws)} laws hold", *lines])
