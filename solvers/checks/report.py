"""Results of checking a solver or an accelerator."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Law:
    """Result of checking one property.

    Attributes:
        name: the property.
        where: the grid or dtype it was checked on.
        measured: what was measured.
        expected: what was expected.
        passed: whether they agree.
    """

    name: str
    where: str
    measured: str
    expected: str
    passed: bool

    def __str__(self) -> str:
        mark = "pass" if self.passed else "FAIL"
        return f"{mark}  {self.name:<18} {self.where:<24} measured {self.measured}, expected {self.expected}"

    @property
    def anchor(self) -> str:
        """Name of the section that explains the law, as a page's link has it."""
        return self.name.replace(" ", "-")


@dataclass(frozen=True)
class Report:
    """Results of all checks; `str(report)` is a table of them, failures last.

    Attributes:
        subject: what was checked.
        laws: one result per property.
        page: page with a section for each law; a failure names it. Empty if there is none.
    """

    subject: str
    laws: tuple[Law, ...]
    page: str = ""

    @property
    def passed(self) -> bool:
        """Whether every property holds."""
        return all(law.passed for law in self.laws)

    @property
    def failures(self) -> tuple[Law, ...]:
        """The results that did not pass."""
        return tuple(law for law in self.laws if not law.passed)

    def __str__(self) -> str:
        lines = [self._line(law) for law in sorted(self.laws, key=lambda law: not law.passed)]
        kept = len(self.laws) - len(self.failures)
        return "\n".join([f"{self.subject}: {kept} of {len(self.laws)} checks passed", *lines])

    def _line(self, law: Law) -> str:
        return str(law) if law.passed or not self.page else f"{law}; see {self.page}#{law.anchor}"
