"""Arguments of guidance: numbers, rules, and what is wrapped around them."""

import math
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..guidance import CFG, Interval, Moment, Rescale, Rule, as_rule, make_guidance
from .argument import argument, cannot_be_used, number, number_between, optional
from .values import listed, real_number

Guidance = float | tuple[float, ...] | Rule
"""A number, one for each sample, or a rule."""

G = TypeVar("G", bound=Guidance | None)

Guided = float | Sequence[float] | Rule | str | Callable[[Moment], float]
"""What a call takes for guidance: besides these, the text of a rule, and a function of the evaluation."""


def read_guidance(name: str, value: Any) -> Guidance:
    """Reads a number, a sequence with one for each sample, a rule, its text, or a function of the evaluation."""
    several = listed(value)
    if several is not None:
        return tuple(number(f"{name}[{index}]", entry) for index, entry in enumerate(several))
    if isinstance(value, Rule):
        return value
    if isinstance(value, str):
        return _from_text(name, value)
    if callable(value) and not isinstance(value, type):
        return CFG(value)
    if isinstance(value, type):
        raise ValueError(cannot_be_used(name, value, "a number, or a rule as APG(7.5)"))
    return number(name, value)


def _from_text(name: str, text: str) -> Rule:
    try:
        float(text)
    except ValueError:
        pass
    else:
        raise ValueError(f"{name}={reprlib.repr(text)} is not a number; give a float")
    try:
        return make_guidance(text)
    except ValueError as error:
        raise ValueError(f"{name}={reprlib.repr(text)} cannot be used: {error}") from error


def is_guided(guidance: Guidance, above: float = 1.0) -> bool:
    """Whether guidance needs the negative branch: a rule, or a number above `above` for some sample."""
    if isinstance(guidance, Rule):
        return True
    return any(scale > above for scale in (guidance if isinstance(guidance, tuple) else (guidance,)))


def of_sample(guidance: G, index: int) -> G | float:
    """The guidance of sample `index` alone."""
    return guidance[index] if isinstance(guidance, tuple) else guidance


def _read_interval(name: str, value: Any) -> tuple[float, float]:
    try:
        low, high = (real_number(name, entry, finite=False) for entry in listed(value) or [None])
    except ValueError:
        raise ValueError(f"{name} must be (low, high), two noise levels sigma / alpha, got {value!r}") from None
    if math.isnan(low) or not 0 <= low < high:
        raise ValueError(f"{name} needs 0 <= low < high (noise levels sigma / alpha), got {low:g} and {high:g}")
    return low, high


@dataclass(frozen=True)
class GuidanceOptions:
    """What is wrapped around guidance.

    Attributes:
        guidance_rescale: phi of `Rescale`: how far the guided prediction is scaled to the standard deviation of the
            conditional one, from 0 (not at all) to 1.
        guidance_interval: Noise levels (low, high) of sigma / alpha between which guidance acts; elsewhere the
            conditional branch alone is evaluated. None is all.
    """

    guidance_rescale: float = argument(
        0.0, number_between(0, 1), "Scale to the conditional prediction's deviation, 0 to 1.",
        flag_type=float,
    )  # fmt: skip
    guidance_interval: tuple[float, float] | None = argument(
        None, optional(_read_interval), "Guide between these noise levels sigma/alpha.",
        flag_type=tuple[float, float], metavar="LOW HIGH", shown_default="all",
    )  # fmt: skip

    def wrapped(self, guidance: Guidance) -> float | Rule:
        """The rule of a call with a negative branch: `guidance`, rescaled, within the interval.

        A number without either is returned as it is.
        """
        if isinstance(guidance, float | int) and not self.guidance_rescale and self.guidance_interval is None:
            return guidance
        rule = as_rule(guidance)
        if self.guidance_rescale:
            rule = Rescale(rule, self.guidance_rescale)
        return rule if self.guidance_interval is None else Interval(rule, *self.guidance_interval)

    def refuse_without_negative(self, guidance: object) -> None:
        """Raises ValueError if a call without a negative branch asks for what needs one."""
        given = {"guidance_rescale": self.guidance_rescale or None, "guidance_interval": self.guidance_interval}
        for name, value in {**given, "guidance": guidance if isinstance(guidance, Rule) else None}.items():
            if value is not None:
                raise ValueError(
                    f"{name}={value!r} needs a negative branch, and this call has none: guidance is 1 or less, or the "
                    "checkpoint embeds it, or was distilled to need none"
                )

