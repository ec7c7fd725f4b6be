"""Checks of accelerators' settings. Each names the class, the field, what it must be, and the value."""

import math
import operator
from collections.abc import Sequence
from numbers import Real
from typing import Any


def check_whole(settings: object, *, optional: bool = False, **least: int) -> None:
    """Checks that fields are whole numbers in range.

    Args:
        settings: The dataclass that holds the fields.
        optional: Whether None is allowed.
        **least: The smallest value allowed, by field.

    Raises:
        ValueError: if a field is not.
    """
    for name, smallest in least.items():
        value = getattr(settings, name)
        if optional and value is None:
            continue
        try:
            number = operator.index(value)
        except TypeError:
            _refuse(settings, name, "a whole number")
        if number < smallest:
            _refuse(settings, name, f"at least {smallest}")


def check_numbers(
    settings: object,
    *names: str,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    finite: bool = True,
    optional: bool = False,
) -> None:
    """Checks that fields are numbers in range; nan never is.

    Args:
        settings: The dataclass that holds the fields.
        *names: The fields.
        least: The smallest value allowed.
        above: A bound that values must exceed.
        below: A bound that values must stay under.
        finite: Whether infinity is refused.
        optional: Whether None is allowed.

    Raises:
        ValueError: if a field is not.
    """
    for name in names:
        value = getattr(settings, name)
        if optional and value is None:
            continue
        number = _number(value)
        for needed, holds in (
            ("a number", not math.isnan(number)),
            ("finite", not finite or math.isfinite(number)),
            (f"at least {least:g}", number >= least),
            (f"above {above:g}", number > above or above == -math.inf),
            (f"below {below:g}", number < below or below == math.inf),
        ):
            if not holds:
                _refuse(settings, name, needed)


def check_fractions(settings: object, *names: str) -> None:
    """Checks that fields are fractions of the steps: within 0 and 1, each at least as large as the one before.

    Raises:
        ValueError: if they are not.
    """
    values = [getattr(settings, name) for name in names]
    numbers = [0.0, *map(_number, values), 1.0]
    if not all(first <= second for first, second in zip(numbers, numbers[1:], strict=False)):
        raise ValueError(
            f"{type(settings).__name__} needs 0 <= {' <= '.join(names)} <= 1 (fractions of the steps), got "
            f"{', '.join(map(str, values))}"
        )


def check_choice(settings: object, name: str, choices: Sequence[object]) -> None:
    """Raises ValueError if a field is none of `choices`."""
    if getattr(settings, name) not in choices:
        _refuse(settings, name, " or ".join(map(str, choices)))


def check_sequence(settings: object, name: str, *, above: float = -math.inf) -> None:
    """Checks that a field holds one or more finite numbers above a bound.

    Raises:
        ValueError: if it does not.
    """
    values: Any = getattr(settings, name)
    numbers = [_number(value) for value in values] if isinstance(values, Sequence) else []
    if not numbers or not all(math.isfinite(number) and number > above for number in numbers):
        bound = f" above {above:g}" if above > -math.inf else ""
        _refuse(settings, name, f"one or more finite numbers{bound}")


def _number(value: object) -> float:
    """The value as a float; nan if it is not a real number."""
    return float(value) if isinstance(value, Real) else math.nan


def _refuse(settings: object, name: str, needed: str) -> None:
    raise ValueError(f"{type(settings).__name__}.{name} must be {needed}, got {getattr(settings, name)!r}")
