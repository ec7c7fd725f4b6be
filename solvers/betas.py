"""Noise tables of discrete schedules, by the names that scheduler configs use."""

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor


def _linear(n: int, start: float, end: float, dtype: torch.dtype) -> Tensor:
    """Linear betas (Ho et al. 2020, arXiv 2006.11239)."""
    return torch.linspace(start, end, n, dtype=dtype)


def _scaled_linear(n: int, start: float, end: float, dtype: torch.dtype) -> Tensor:
    """Linear in sqrt(beta) (latent diffusion, Rombach et al. 2022, arXiv 2112.10752)."""
    return torch.linspace(math.sqrt(start), math.sqrt(end), n, dtype=dtype) ** 2


def _sigmoid(n: int, start: float, end: float, dtype: torch.dtype) -> Tensor:
    """Sigmoid between start and end over [-6, 6] (GeoDiff, Xu et al. 2022, arXiv 2203.02923)."""
    return torch.sigmoid(torch.linspace(-6, 6, n, dtype=dtype)) * (end - start) + start


def _capped(signal: Tensor) -> Tensor:
    """Betas whose alphas_cumprod follows `signal` (n+1,), each at most 0.999."""
    return (1 - signal[1:] / signal[:-1]).clamp(max=0.999)


def _squaredcos_cap_v2(n: int, start: float, end: float, dtype: torch.dtype) -> Tensor:
    """Cosine alphas_cumprod (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17)."""
    u = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    return _capped(torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2)


def _exp(n: int, start: float, end: float, dtype: torch.dtype) -> Tensor:
    """Exponential alphas_cumprod = e^(-12 u)."""
    return _capped(torch.exp(-12 * torch.linspace(0, 1, n + 1, dtype=torch.float64)))


def _laplace(n: int, start: float, end: float, dtype: torch.dtype) -> Tensor:
    """Log-SNR at quantiles of a Laplace distribution, as published (Hang et al. 2024, arXiv 2407.03297)."""
    half = 0.5 - torch.linspace(0, 1, n + 1, dtype=torch.float64)
    snr = torch.exp(-0.5 * torch.where(half < 0, -1.0, 1.0) * torch.log(1 - 2 * half.abs() + 1e-6))
    return _capped((snr / (1 + snr)).sqrt())


BETA_SCHEDULES: Final[dict[str, Callable[[int, float, float, torch.dtype], Tensor]]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": _squaredcos_cap_v2,
    "sigmoid": _sigmoid,
    "exp": _exp,
    "laplace": _laplace,
}


def make_betas(
    name: str, n: int = 1000, start: float = 1e-4, end: float = 0.02, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Computes the betas (n,) of a named noise table.

    Args:
        name: one of `BETA_SCHEDULES`.
        n: number of entries, at least 2.
        start: first beta; ignored by tables that are defined by alphas_cumprod.
        end: last beta; ignored likewise.
        dtype: dtype of the computation and of the result.

    Raises:
        ValueError: if the name is unknown or n is below 2.
    """
    if name not in BETA_SCHEDULES:
        raise ValueError(f"unknown beta_schedule {name!r}; known are {', '.join(BETA_SCHEDULES)}")
    if n < 2:
        raise ValueError(f"a noise table needs at least two entries, got num_train_timesteps={n}")
    return BETA_SCHEDULES[name](n, start, end, dtype).to(dtype)


def zero_terminal_snr(betas: Tensor) -> Tensor:
    """Rescales betas (T,) so that alphas_cumprod ends at 0 (Lin et al. 2023, arXiv 2305.08891, algorithm 1)."""
    root = torch.cumprod(1 - betas, 0).sqrt()
    rescaled = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
    return 1 - torch.cat((rescaled[:1], rescaled[1:] / rescaled[:-1]))
