"""Noise schedules: alpha(t) and sigma(t) of x_t = alpha x0 + sigma eps, with their derivatives, in float64.

Time t decreases along sampling, from `t_max` (noise) to `t_min` (data).
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Times = Tensor | float


def as_float64(values: Times) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


class Schedule(Protocol):
    """Marginal coefficients as functions of t; every method takes and returns float64 tensors of one shape."""

    @property
    def t_max(self) -> float:
        """The noisiest time the schedule is defined at."""
        ...

    @property
    def t_min(self) -> float:
        """The time of clean data, sigma = 0."""
        ...

    def alpha(self, t: Times) -> Tensor: ...

    def sigma(self, t: Times) -> Tensor: ...

    def d_alpha(self, t: Times) -> Tensor:
        """d alpha / dt."""
        ...

    def d_sigma(self, t: Times) -> Tensor:
        """d sigma / dt."""
        ...

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        """The t at which log(alpha / sigma) has the given value; +inf gives `t_min`."""
        ...

    def timestep(self, t: Times) -> Tensor:
        """What the network is told at time t."""
        ...


@dataclass(frozen=True)
class RectifiedFlow:
    """Straight paths x_t = (1 - t) x0 + t eps, t from 1 to 0 (Liu et al. 2022, arXiv 2209.03003); timestep = 1000 t."""

    timestep_scale: float = 1000.0

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def t_min(self) -> float:
        return 0.0

    def alpha(self, t: Times) -> Tensor:
        return 1 - as_float64(t)

    def sigma(self, t: Times) -> Tensor:
        return as_float64(t).clone()

    def d_alpha(self, t: Times) -> Tensor:
        return -torch.ones_like(as_float64(t))

    def d_sigma(self, t: Times) -> Tensor:
        return torch.ones_like(as_float64(t))

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        return torch.sigmoid(-as_float64(log_snr))

    def timestep(self, t: Times) -> Tensor:
        return self.timestep_scale * as_float64(t)


@dataclass(frozen=True)
class CosineVP:
    """The continuous variance-preserving schedule alpha = cos(pi t / 2), sigma = sin(pi t / 2); timestep = t.

    The networks of v-diffusion are told this t, from 1 (noise) to 0 (Salimans & Ho 2022, arXiv 2202.00512).
    """

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def t_min(self) -> float:
        return 0.0

    def alpha(self, t: Times) -> Tensor:
        return (math.pi / 2 * (1 - as_float64(t))).sin()  # 0 at t = 1, where the cosine of pi / 2 in float64 is not

    def sigma(self, t: Times) -> Tensor:
        return (math.pi / 2 * as_float64(t)).sin()

    def d_alpha(self, t: Times) -> Tensor:
        return -math.pi / 2 * self.sigma(t)

    def d_sigma(self, t: Times) -> Tensor:
        return math.pi / 2 * self.alpha(t)

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        return (-as_float64(log_snr)).exp().atan() * 2 / math.pi

    def timestep(self, t: Times) -> Tensor:
        return as_float64(t).clone()


@dataclass(frozen=True)
class EDM:
    """alpha = 1, sigma = t in [0, sigma_max] (Karras et al. 2022, arXiv 2206.00364); timestep = ln(sigma) / 4.

    `sigma_min` is where grids place their last point before 0; `sigma_data` is the spread of the training data.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"EDM needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}")

    @property
    def t_max(self) -> float:
        return self.sigma_max

    @property
    def t_min(self) -> float:
        return 0.0

    def alpha(self, t: Times) -> Tensor:
        return torch.ones_like(as_float64(t))

    def sigma(self, t: Times) -> Tensor:
        return as_float64(t).clone()

    def d_alpha(self, t: Times) -> Tensor:
        return torch.zeros_like(as_float64(t))

    def d_sigma(self, t: Times) -> Tensor:
        return torch.ones_like(as_float64(t))

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        return (-as_float64(log_snr)).exp()

    def timestep(self, t: Times) -> Tensor:
        return as_float64(t).log() / 4
