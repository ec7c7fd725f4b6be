"""Spacing rules of grids: timesteps of a discrete schedule, ramps of sigma, shifts of flow time."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float64]

SPACINGS: Final = ("linspace", "leading", "trailing")
RAMPS: Final = ("karras", "exponential", "beta", "lu")


def spaced_timesteps(spacing: str, steps: int, train_steps: int = 1000, offset: int = 0) -> Row:
    """Computes falling timesteps (steps,) of a discrete schedule by a published spacing rule.

    - "linspace": evenly from the last entry to 0, not rounded.
    - "leading": multiples of train_steps // steps, plus `offset`.
    - "trailing": from the last entry down in strides of train_steps / steps, rounded.

    Source: Lin et al. 2023, arXiv 2305.08891, table 2.

    Args:
        spacing: one of `SPACINGS`.
        steps: number of timesteps.
        train_steps: number of table entries.
        offset: added by "leading".

    Raises:
        ValueError: if the spacing is unknown, or if a rounding rule has more steps than the table has entries.
    """
    if spacing not in SPACINGS:
        raise ValueError(f"unknown timestep_spacing {spacing!r}; known are {', '.join(SPACINGS)}")
    if steps < 1 or (spacing != "linspace" and steps > train_steps):
        raise ValueError(f"{spacing} spacing needs 1 to {train_steps} steps, got {steps}")
    if spacing == "linspace":
        # A single step starts at pure noise; np.linspace would place it at the data end.
        return np.linspace(0, train_steps - 1, steps)[::-1].copy() if steps > 1 else np.array([train_steps - 1.0])
    if spacing == "leading":
        return np.arange(steps, dtype=np.float64)[::-1] * (train_steps // steps) + offset
    return np.round(train_steps - np.arange(steps) * (train_steps / steps)) - 1


def distilled_timesteps(steps: int, train_steps: int = 1000, original: int = 50) -> Row:
    """Computes falling timesteps (steps,) among those that a consistency model was distilled on.

    The distilled timesteps are multiples of train_steps // original, minus 1; every (original / steps)-th is chosen,
    rounded down.

    Source: Luo et al. 2023, arXiv 2310.04378.

    Args:
        steps: number of timesteps.
        train_steps: number of table entries.
        original: number of distilled timesteps.

    Raises:
        ValueError: if there are more steps than distilled timesteps, or more of those than table entries.
    """
    if not 1 <= original <= train_steps:
        raise ValueError(f"original_inference_steps must lie between 1 and {train_steps}, got {original}")
    if not 1 <= steps <= original:
        raise ValueError(f"original_inference_steps={original} allows 1 to {original} steps, got {steps}")
    known = (np.arange(original, 0, -1) * (train_steps // original) - 1).astype(np.float64)
    chosen: Row = known[np.floor(np.linspace(0, original, steps, endpoint=False)).astype(int)]
    return chosen


def ramp(rule: str, sigma_max: float, sigma_min: float, n: int) -> Row:
    """Computes falling noise levels (n,) from sigma_max to sigma_min by one of `RAMPS`.

    Args:
        rule: one of `RAMPS`.
        sigma_max: first level.
        sigma_min: last level.
        n: number of levels.

    Raises:
        ValueError: if the rule is unknown, or if not 0 < sigma_min <= sigma_max.
    """
    if rule not in RAMPS:
        raise ValueError(f"unknown sigma ramp {rule!r}; known are {', '.join(RAMPS)}")
    if not 0 < sigma_min <= sigma_max:
        raise ValueError(f"a {rule} grid needs 0 < sigma_min <= sigma_max, got {sigma_min} and {sigma_max}")
    if rule == "karras":
        return karras(sigma_max, sigma_min, n)
    if rule in ("exponential", "lu"):  # equal steps in log-SNR; Diffusers has both names
        return np.exp(np.linspace(math.log(sigma_max), math.log(sigma_min), n))
    return beta(sigma_max, sigma_min, n)


def karras(sigma_max: float, sigma_min: float, n: int, rho: float = 7.0) -> Row:
    """Computes n falling levels with equal steps in sigma^(1/rho) (Karras et al. 2022, arXiv 2206.00364, eq. 5)."""
    levels: Row = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), n) ** rho
    return levels


def beta(sigma_max: float, sigma_min: float, n: int, a: float = 0.6, b: float = 0.6) -> Row:
    """Computes n falling quantiles of a Beta(a, b) distribution over [sigma_min, sigma_max] (arXiv 2407.12173)."""
    from scipy.special import betaincinv  # imported here because importing scipy is slow

    levels: Row = sigma_min + betaincinv(a, b, np.linspace(1, 0, n)) * (sigma_max - sigma_min)
    return levels


def shift_time(t: Row, shift: float) -> Row:
    """Shifts flow time towards noise: shift t / (1 + (shift - 1) t) (Esser et al. 2024, arXiv 2403.03206, eq. 23).

    Args:
        t: (n,), flow time.
        shift: above 0; 1 leaves t unchanged.
    """
    if not shift > 0:
        raise ValueError(f"the shift of flow time must be above 0, got {shift}")
    shifted: Row = shift * t / (1 + (shift - 1) * t)
    return shifted


def stretch_time(t: Row, last: float) -> Row:
    """Stretches flow time (n,) away from its first point 1 so that its last point becomes `last` (LTX-Video)."""
    if not 0 < last < 1:
        raise ValueError(f"shift_terminal must lie inside (0, 1), got {last}")
    if t[-1] == 1:
        raise ValueError("shift_terminal needs at least two steps")
    stretched: Row = 1 - (1 - t) * (1 - last) / (1 - t[-1])
    return stretched


def dynamic_mu(
    tokens: int, base_shift: float = 0.5, max_shift: float = 1.15, base_tokens: int = 256, max_tokens: int = 4096
) -> float:
    """Computes mu of Flux for an image of `tokens` tokens, linear and not clipped; the shift is exp(mu)."""
    return base_shift + (max_shift - base_shift) * (tokens - base_tokens) / (max_tokens - base_tokens)
