"""Guidance within an interval of noise levels."""

import math
from dataclasses import dataclass

from .base import Moment, Needs, Wrapper


@dataclass(frozen=True)
class Interval(Wrapper):
    """Guides at noise levels low <= sigma / alpha <= high; elsewhere the conditional branch alone is evaluated.

    Source: Kynkäänniemi et al. 2024, arXiv 2404.07724.

    Attributes:
        low: Lowest noise level sigma / alpha that is guided.
        high: Highest one; infinity guides from pure noise on.
    """

    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(
                f"a guidance interval needs 0 <= low < high (noise levels sigma / alpha), got {self.low!r} and "
                f"{self.high!r}"
            )

    def needs(self, moment: Moment) -> Needs:
        return super().needs(moment) if self.low <= moment.noise <= self.high else Needs.CONDITIONAL
