"""SADA's stability criterion and step-wise estimate (arXiv 2507.17135, Criterion 3.4 and Theorem 3.5).

Velocities are y = dx/dt at the current and the two previous steps, newest first; time decreases from step to step.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...device.readback import Readback


def extrapolate(x: Tensor, velocities: Sequence[Tensor], dt: float, weights: Sequence[float]) -> Tensor:
    """The state one step of length `dt` (negative) after x, from past velocities alone: x + dt sum(w_k y_k).

    Args:
        x: States, (B, ...).
        velocities: dx/dt at the newest times, newest first, (B, ...) each.
        dt: Length of the step, negative.
        weights: One per velocity, as an `Estimator` returns them.
    """
    increment = velocities[0] * weights[0]
    for weight, velocity in zip(weights[1:], velocities[1:], strict=True):
        increment = increment + velocity * weight
    return x + increment * dt


def second_difference(velocities: Sequence[Tensor]) -> Tensor:
    """Second backward difference y_t - 2 y_{t+1} + y_{t+2} of the velocity."""
    newest, middle, oldest = velocities
    return newest - 2 * middle + oldest


def instability(x_next: Tensor, predicted: Tensor, velocities: Sequence[Tensor]) -> Tensor:
    """Criterion 3.4 before any averaging: (x_next - predicted) * second_difference, elementwise, as x (B, ...).

    Negative where the trajectory bends back towards its extrapolation, that is, where it is stable.
    """
    return (x_next - predicted) * second_difference(velocities)


def sample_scores(scores: Tensor, *others: Tensor) -> Readback:
    """Mean of `scores` (B, ...) over each sample, on its way to the host; negative means stable.

    `others`, numbers (B,) each, are read with them and follow them.
    """
    means = scores.flatten(1).mean(dim=1)
    return Readback(torch.cat((means, *others)) if others else means)


def noise_of(x: Tensor, x0: Tensor, alpha: float, sigma: float) -> Tensor:
    """eps of x = alpha x0 + sigma eps."""
    return (x - alpha * x0) / sigma


def stepwise_x0(predicted: Tensor, eps: Tensor, alpha: float, sigma: float) -> Tensor:
    """x0 of the extrapolated state under the reused noise: (predicted - sigma eps) / alpha (Theorem 3.5)."""
    return (predicted - sigma * eps) / alpha


def token_scores(scores: Tensor) -> Tensor:
    """Instability per position (B, ...): the mean over channels of elementwise scores (B, C, ...)."""
    return scores.mean(dim=1)


def change_scores(scores: Tensor, velocities: Sequence[Tensor]) -> Tensor:
    """Scores per position by the change of the velocity, with as many of them at least 0 as in `scores`.

    The criterion then says how many positions are computed, and the change which: those whose velocity changed most.

    Args:
        scores: Instability per position, (B, ...), as `token_scores` returns it.
        velocities: dx/dt at the current and the previous step at least, newest first, (B, C, ...) each.

    Returns:
        The mean over channels of |y_t - y_{t+1}| less that of the last computed position, as `scores`.
    """
    change = (velocities[0] - velocities[1]).abs().mean(dim=1).flatten(1)
    count = (scores.flatten(1) >= 0).sum(dim=1, keepdim=True)
    least = change.sort(dim=1, descending=True).values.gather(1, (count - 1).clamp(min=0))
    return torch.where(count > 0, change - least, -torch.inf).view_as(scores)
