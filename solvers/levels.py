"""Noise levels of named grids, as functions of the levels that a network was trained on.

A level is sigma/alpha, or flow time for rectified flow. Every rule takes the levels of training, rising, (S,), and a
number of steps N, and returns N+1 falling levels that end at 0 (clean data).
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from .level_tables import TABLES, stretched
from .spacing import Row

Rule = Callable[[Row, int], Row]


def simple(levels: Row, steps: int) -> Row:
    """Every (S/N)-th level from the highest down, positions rounded down."""
    size = len(levels)
    return _picked(levels, size - 1 - np.arange(steps) * size // steps)


def ddim_uniform(levels: Row, steps: int) -> Row:
    """Levels 1, 1 + k, 1 + 2k, ... with k = S // N: "leading" timesteps with an offset of 1, which start below the top.

    Where N does not divide S the published rule may take one or more steps too many; the highest ones are left out.
    """
    stride = max(len(levels) // steps, 1)
    return _picked(levels, 1 + stride * np.arange(steps)[::-1])


def sgm_uniform(levels: Row, steps: int) -> Row:
    """N+1 equally spaced positions from the highest level to the lowest, without the last; logarithms in between."""
    at = np.linspace(len(levels) - 1, 0, steps + 1)[:-1]
    return _ended(np.exp(np.interp(at, np.arange(len(levels)), np.log(levels))))


def beta_timesteps(levels: Row, steps: int) -> Row:
    """Positions at quantiles of a Beta(0.6, 0.6) distribution, rounded (Lee et al. 2024, arXiv 2407.12173).

    The ramp "beta" takes the same quantiles of the levels themselves.
    """
    from scipy.special import betaincinv  # imported here because importing scipy is slow

    quantiles = betaincinv(0.6, 0.6, 1 - np.arange(steps) / steps)
    return _picked(levels, np.rint(quantiles * (len(levels) - 1)).astype(int))


def kl_optimal(levels: Row, steps: int) -> Row:
    """Equal steps of arctan(sigma), which minimise a bound on the KL divergence (Sabour et al. 2024, 2404.14507)."""
    share = np.arange(steps) / max(steps - 1, 1)
    return _ended(np.tan(share * np.arctan(levels[0]) + (1 - share) * np.arctan(levels[-1])))


def linear_quadratic(levels: Row, steps: int) -> Row:
    """Short equal steps to 0.975 of the highest level in the first half, then quadratically longer ones (Mochi)."""
    if steps == 1:
        return _ended(levels[-1:])
    threshold, half = 0.025, steps // 2
    later, missing = steps - half, half - threshold * steps
    square, slope = missing / (half * later**2), threshold / half - 2 * missing / later**2
    k = np.arange(steps, dtype=np.float64)
    done = np.where(k < half, k * threshold / half, square * k**2 + slope * k + square * half**2)
    return _ended((1 - done) * levels[-1])


def polyexponential(levels: Row, steps: int, rho: float = 1.0) -> Row:
    """Equal steps of log(sigma)^(1/rho) between the logarithms of the ends; rho = 1 is the ramp "exponential"."""
    low, high = math.log(levels[0]), math.log(levels[-1])
    share = np.linspace(1, 0, steps) if steps > 1 else np.ones(1)
    return _ended(np.exp(share**rho * (high - low) + low))


def _table(name: str) -> Rule:
    return lambda levels, steps: stretched(name, steps)


LEVEL_RULES: Final[dict[str, Rule]] = {
    "simple": simple,
    "sgm_uniform": sgm_uniform,
    "ddim_uniform": ddim_uniform,
    "beta_timesteps": beta_timesteps,
    "kl_optimal": kl_optimal,
    "linear_quadratic": linear_quadratic,
    "polyexponential": polyexponential,
    **{name: _table(name) for name in TABLES},
}
"""Rules by the name of the grid."""


def named_levels(name: str, levels: Row, steps: int) -> Row:
    """Computes the N+1 falling levels of a named grid, the last 0.

    Args:
        name: one of `LEVEL_RULES`.
        levels: (S,), the levels of training, rising.
        steps: N.

    Raises:
        ValueError: if the name is unknown, if there are fewer than one step, or more than the rule has levels for.
    """
    if name not in LEVEL_RULES:
        raise ValueError(f"unknown grid {name!r}; known are {', '.join(LEVEL_RULES)}")
    if steps < 1:
        raise ValueError(f"a grid needs at least one step, got steps={steps}")
    found = LEVEL_RULES[name](levels, steps)
    if not bool((np.diff(found) < 0).all()):
        raise ValueError(f"grid {name!r} has no {steps} different noise levels: take fewer steps")
    return found


def _picked(levels: Row, positions: np.ndarray) -> Row:
    """The levels at positions, which are kept within the table, and 0."""
    return _ended(levels[np.clip(positions, 0, len(levels) - 1)])


def _ended(levels: Row) -> Row:
    """Appends the level of clean data."""
    return np.append(levels, 0.0)
