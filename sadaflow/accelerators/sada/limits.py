"""SADA's settings in steps."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """SADA's settings for a given number of steps.

    Attributes:
        first: First step that may be skipped.
        multistep: First step that is interpolated by a Lagrange polynomial.
        end: First of the last steps, which are evaluated.
        interval: Distance between evaluations in the multistep part.
        max_skips: Most consecutive skips.
    """

    first: int
    multistep: int
    end: int
    interval: int
    max_skips: int

    @property
    def usable(self) -> bool:
        """Whether there are three velocities for the criterion before `first`, and steps to skip after it."""
        return self.first >= 3 and self.end > self.first
