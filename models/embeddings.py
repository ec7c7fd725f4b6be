"""Timestep embeddings (DDPM, Ho et al. 2020, after Vaswani et al. 2017)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoids(
    values: Tensor, dim: int, *, cos_first: bool = True, shift: float = 0.0, max_period: float = 10_000.0
) -> Tensor:
    """Computes sinusoidal features in float32.

        [cos(v w_j), sin(v w_j)],    w_j = max_period^(-j / (dim/2 - shift)),  j = 0 .. dim/2 - 1

    Args:
        values: (B,).
        dim: number of features.
        cos_first: cosines before sines, `flip_sin_to_cos` in configs.
        shift: `freq_shift` in configs.
        max_period: see the formula.

    Returns:
        (B, dim).
    """
    half = dim // 2
    exponent = -math.log(max_period) * torch.arange(half, dtype=torch.float32, device=values.device) / (half - shift)
    angles = values.float()[:, None] * exponent.exp()[None]
    parts = (angles.cos(), angles.sin()) if cos_first else (angles.sin(), angles.cos())
    return F.pad(torch.cat(parts, dim=-1), (0, dim % 2))


def single_time(timestep: Tensor | float, device: torch.device) -> Tensor:
    """Converts a timestep, a number or (B,), to a batch of one step: (1, 1) or (1, B)."""
    return torch.as_tensor(timestep, device=device).reshape(1, -1)


class TimestepEmbedding(nn.Module):
    """Two-layer perceptron on sinusoidal features, (..., in_dim) to (..., dim).

    Args:
        in_dim: width of the features.
        dim: width of the embedding.
        condition_dim: width of features that `cond_proj` projects to in_dim, to be added to the input; None for none.
        bias: whether the layers have a bias.
    """

    def __init__(self, in_dim: int, dim: int, condition_dim: int | None = None, bias: bool = True) -> None:
        super().__init__()
        if condition_dim is not None:
            self.cond_proj = nn.Linear(condition_dim, in_dim, bias=False)
        self.linear_1 = nn.Linear(in_dim, dim, bias=bias)
        self.linear_2 = nn.Linear(dim, dim, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Maps features (..., in_dim) to embeddings (..., dim)."""
        return self.linear_2(F.silu(self.linear_1(features)))
