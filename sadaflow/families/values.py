"""Reads numbers from arguments of any numeric type; errors name the argument."""

import math
import operator
import reprlib
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor


def whole_number(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """Convert an argument to an int.

    Args:
        name: Name of the argument, for the message.
        value: Python or NumPy integer, or a 0-d array or tensor of integers. Booleans and floats are refused, whole
            floats too: `3.0` is more often a mistake than a count.
        least: Smallest value allowed; None for no limit.
        most: Largest value allowed; None for no limit.

    Raises:
        ValueError: If the value is not an integer, or is out of range.
    """
    boolean = isinstance(value, (bool, np.bool_)) or str(getattr(value, "dtype", "")).endswith("bool")
    try:
        if boolean or getattr(value, "ndim", 0) != 0:
            raise TypeError
        number = operator.index(value)
    except (TypeError, RuntimeError, NotImplementedError):
        raise ValueError(f"{name}={reprlib.repr(value)} is not a whole number; give an int") from None
    if (least is not None and number < least) or (most is not None and number > most):
        bounds = f"at least {least}" if most is None else f"at most {most}" if least is None else f"{least} to {most}"
        raise ValueError(f"{name} must be {bounds}, got {_short(number)}")
    return number


def real_number(name: str, value: Any, finite: bool = True) -> float:
    """Convert an argument to a float.

    Args:
        name: Name of the argument, for the message.
        value: Python or NumPy number, or a 0-d array or tensor of numbers. Booleans and strings are refused.
        finite: Whether NaN and infinity are refused as well.

    Raises:
        ValueError: If the value is not a number, or not a finite one.
    """
    given = value
    if isinstance(value, (Tensor, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise ValueError(f"{name}={reprlib.repr(given)} is not a number; give a float")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if finite and not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {number}")
    return number


def listed(value: Any) -> list[Any] | None:
    """The entries of a list, tuple, range, or 1-d array or tensor; None for any other value."""
    if isinstance(value, (Tensor, np.ndarray)):
        return list(value.tolist()) if value.ndim == 1 else None
    return list(value) if isinstance(value, (list, tuple, range)) else None


def _short(number: int) -> str:
    """Text of an integer; a power of two for those with many digits, which Python may refuse to print."""
    return str(number) if abs(number) < 10**30 else f"about {'-' if number < 0 else ''}2^{number.bit_length() - 1}"
