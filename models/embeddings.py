"""Timestep embedding of U-Nets (DDPM, Ho et al. 2020, after Vaswani et al. 2017)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoids(
    values: Tensor, dim: int, *, cos_first: bool = True, shift: float = 0.0, max_period: float = 10_000.0
) -> Tensor:
    """Sinusoidal features (B, dim) in float32 of `values` (B,).

    `cos_first` and `shift` are the configs' `flip_sin_to_cos` and `freq_shift`.
    """
    half = dim // 2
    exponent = -math.log(max_period) * torch.arange(half, dtype=torch.float32, device=values.device) / (half - shift)
    angles = values.float()[:, None] * exponent.exp()[None]
    parts = (angles.cos(), angles.sin()) if cos_first else (angles.sin(), angles.cos())
    return F.pad(torch.cat(parts, dim=-1), (0, dim % 2))


def single_time(timestep: Tensor | float, device: torch.device) -> Tensor:
    """A timestep, a number or (B,), as one step of several: (1, 1) or (1, B)."""
    return torch.as_tensor(timestep, device=device).reshape(1, -1)


class TimestepEmbedding(nn.Module):
    """Two-layer perceptron (..., in_dim) -> (..., dim) on sinusoidal features.

    With `condition_dim`, features of that width are projected and added to its input: `cond_proj`.
    """

    def __init__(self, in_dim: int, dim: int, condition_dim: int | None = None) -> None:
        super().__init__()
        if condition_dim is not None:
            self.cond_proj = nn.Linear(condition_dim, in_dim, bias=False)
        self.linear_1 = nn.Linear(in_dim, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(features)))
