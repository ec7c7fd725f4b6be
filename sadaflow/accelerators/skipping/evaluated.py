"""Which samples are evaluated by methods whose steps are known beforehand."""

from collections.abc import Sequence

from ..base import Mode


class Evaluated:
    """All samples at the steps of a pattern, and edited ones at the step after their edit whatever the pattern.

    Args:
        samples: Number of samples, B.

    Attributes:
        rows: Indices of the samples that are evaluated at the present step.
    """

    def __init__(self, samples: int) -> None:
        self.rows: Sequence[int] = range(samples)
        self._samples, self._owed = samples, tuple[int, ...]()

    def plan(self, every: bool, otherwise: Mode) -> list[Mode]:
        """The modes of a step: FULL for those that are evaluated, `otherwise` for the others.

        Args:
            every: Whether the pattern evaluates the step.
            otherwise: The mode of samples that skip it.
        """
        self.rows, self._owed = (range(self._samples) if every else self._owed), ()
        chosen = frozenset(self.rows)
        return [Mode.FULL if row in chosen else otherwise for row in range(self._samples)]

    def edited(self, rows: Sequence[int]) -> None:
        """Has the samples `rows` evaluated at the next step."""
        self._owed = tuple(rows)
