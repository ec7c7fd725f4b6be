"""Measures how much an error of x0 at each step changes the final latents of a network."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sadaflow.models import call_through
from sadaflow.solvers import Solver

from ..accelerators.replay import tensors_of, with_tensors
from .denoiser import RowDenoise

Array = NDArray[np.float64]


@torch.no_grad()
def error_gains(
    solver: Solver,
    denoise: RowDenoise,
    noise: Tensor,
    steps: Sequence[int],
    *,
    batch: int = 8,
) -> Array:
    """Replaces x0 of single steps by its extrapolation, and follows each trajectory to the end.

    Args:
        solver: The solver, with its grid; it must draw no noise.
        denoise: The denoiser.
        noise: Unit-normal noise, (B, ...).
        steps: Steps whose x0 is replaced, in rising order, from 2 on.
        batch: Most samples per evaluation of the network.

    Returns:
        For each of `steps` and each sample, the root-mean-square change of the final latents per root-mean-square error
        of x0: (len(steps), B).
    """
    size, log_snr = noise.shape[0], [node.log_snr for node in solver.nodes]
    state, owners, past, errors = solver.start(noise), list(range(size)), [noise, noise], []
    while state.step < solver.n_evals:
        step = state.step
        x0 = torch.cat([
            denoise.evaluate(state.x[first : first + batch], step, owners[first : first + batch], call_through)
            for first in range(0, len(owners), batch)
        ])  # fmt: skip
        if step in steps:
            other = _on_a_line(past, log_snr[step - 2 : step + 1])
            errors.append(_size(other - x0[:size]))
            state = with_tensors(state, [torch.cat((tensor, tensor[:size])) for tensor in tensors_of(state)])
            x0, owners = torch.cat((x0, other)), owners + list(range(size))
        past = [past[1], x0[:size].clone()]
        state = solver.step(state, x0)
    ends = state.x.unflatten(0, (-1, size))
    changes = torch.stack([_size(end - ends[0]) for end in ends[1:]])
    ratios: Array = (changes / torch.stack(errors)).double().cpu().numpy()
    return ratios


def gains_of_all_steps(solver: Solver, steps: Sequence[int], measured: Array) -> Array:
    """Root-mean-square gains of every step, interpolated from those of some steps.

    An error of x0 enters x / alpha with the weight 1 - s'/s, as s = sigma / alpha falls to s', and fades from then on.
    The part that is left is interpolated in log-SNR, on a logarithmic scale.

    Args:
        solver: The solver, with its grid of N steps.
        steps: The measured steps.
        measured: Their gains per sample, (len(steps), B).

    Returns:
        Gains, (N,).
    """
    log_snr = np.array([node.log_snr for node in solver.nodes])
    ratios = np.exp(-log_snr)
    with np.errstate(invalid="ignore"):
        weights = 1 - np.append(ratios[1:], 0.0) / ratios
    weights[np.isinf(ratios)] = 1.0
    chosen = list(steps)
    left = np.log(np.sqrt((measured**2).mean(axis=1)) / weights[chosen])
    gains: Array = weights * np.exp(np.interp(log_snr, log_snr[chosen], left))
    return gains


def _on_a_line(past: Sequence[Tensor], log_snr: Sequence[float]) -> Tensor:
    """x0 at the last of three values of log-SNR from x0 at the first two; the second if the first is infinite."""
    (before, last), (first, second, third) = past, log_snr
    if not math.isfinite(first):
        return last
    return last + (third - second) / (second - first) * (last - before)


def _size(difference: Tensor) -> Tensor:
    """Root mean square of each sample (B, ...), as (B,)."""
    return difference.flatten(1).float().square().mean(dim=1).sqrt()
