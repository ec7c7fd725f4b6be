"""Single numbers of a call, of whatever type the caller holds them in: read by name, or refused by name."""

import math
import operator
import reprlib
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor


def whole_number(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """`value` as an int.

    Args:
        name: the argument's name, for the error.
        value: a Python or NumPy integer, or a 0-d array or tensor of integers. Booleans and floats are refused, whole
            ones too: `3.0` is more often a mistake than a count.
        least, most: the range, both ends allowed.

    Raises:
        ValueError: naming the argument and the value.
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
    """`value` as a float.

    Args:
        name: the argument's name, for the error.
        value: a Python or NumPy number, or a 0-d array or tensor of numbers. Booleans and strings are refused.
        finite: whether NaN and infinity are refused as well.

    Raises:
        ValueError: naming the argument and the value.
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
    """The entries of a list, tuple, range, or 1-d array or tensor; None for anything else."""
    if isinstance(value, (Tensor, np.ndarray)):
        return list(value.tolist()) if value.ndim == 1 else None
    return list(value) if isinstance(value, (list, tuple, range)) else None


def _short(number: int) -> str:
    """A number that may have thousands of digits, which Python refuses to print."""
    return str(number) if abs(number) < 10**30 else f"about {'-' if number < 0 else ''}2^{number.bit_length() - 1}"
