"""Noise schedules: alpha(t) and sigma(t) of x_t = alpha x0 + sigma eps, with derivatives, in float64.

Time t decreases along sampling, from `t_max` (noise) to `t_min` (data).
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Times = Tensor | float


def as_float64(values: Times) -> Tensor:
    """Converts a number or tensor to a float64 tensor."""
    return torch.as_tensor(values, dtype=torch.float64)


class Schedule(Protocol):
    """Marginal coefficients as functions of t.

    Every method takes a number or tensor and returns a float64 tensor of the same shape.
    """

    @property
    def t_max(self) -> float:
        """The noisiest time at which the schedule is defined."""
        ...

    @property
    def t_min(self) -> float:
        """The time of clean data, where sigma = 0."""
        ...

    def alpha(self, t: Times) -> Tensor:
        """Signal coefficient at t."""
        ...

    def sigma(self, t: Times) -> Tensor:
        """Noise coefficient at t."""
        ...

    def d_alpha(self, t: Times) -> Tensor:
        """Derivative d alpha / dt."""
        ...

    def d_sigma(self, t: Times) -> Tensor:
        """Derivative d sigma / dt."""
        ...

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        """Returns the t at which log(alpha / sigma) has the given value; +inf gives `t_min`."""
        ...

    def timestep(self, t: Times) -> Tensor:
        """Returns the timestep that conditions the network at time t."""
        ...


@dataclass(frozen=True)
class RectifiedFlow:
    """Straight paths x_t = (1 - t) x0 + t eps, with t from 1 (noise) to 0 (data).

    Source: Liu et al. 2022, arXiv 2209.03003.

    Attributes:
        timestep_scale: the network's timestep is `timestep_scale` times t.
    """

    timestep_scale: float = 1000.0

    @property
    def timestep_unit(self) -> float:
        """What rounding may change in a timestep: networks of flow time are trained on 1000 timesteps."""
        return abs(self.timestep_scale) / 1000

    @property
    def t_max(self) -> float:
        """Time of pure noise, 1."""
        return 1.0

    @property
    def t_min(self) -> float:
        """Time of clean data, 0."""
        return 0.0

    def alpha(self, t: Times) -> Tensor:
        """Signal coefficient 1 - t."""
        return 1 - as_float64(t)

    def sigma(self, t: Times) -> Tensor:
        """Noise coefficient t."""
        return as_float64(t).clone()

    def d_alpha(self, t: Times) -> Tensor:
        """Derivative d alpha / dt = -1."""
        return -torch.ones_like(as_float64(t))

    def d_sigma(self, t: Times) -> Tensor:
        """Derivative d sigma / dt = 1."""
        return torch.ones_like(as_float64(t))

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        """Returns t = sigmoid(-log_snr)."""
        return torch.sigmoid(-as_float64(log_snr))

    def timestep(self, t: Times) -> Tensor:
        """The network's timestep, timestep_scale t."""
        return self.timestep_scale * as_float64(t)


@dataclass(frozen=True)
class CosineVP:
    """Continuous variance-preserving schedule alpha = cos(pi t / 2), sigma = sin(pi t / 2); the timestep is t.

    Networks of v-diffusion are conditioned on this t, from 1 (noise) to 0 (data).

    Source: Salimans & Ho 2022, arXiv 2202.00512.
    """

    @property
    def t_max(self) -> float:
        """Time of pure noise, 1."""
        return 1.0

    @property
    def t_min(self) -> float:
        """Time of clean data, 0."""
        return 0.0

    def alpha(self, t: Times) -> Tensor:
        """Signal coefficient cos(pi t / 2)."""
        return (math.pi / 2 * (1 - as_float64(t))).sin()  # exactly 0 at t = 1, unlike cos(pi / 2)

    def sigma(self, t: Times) -> Tensor:
        """Noise coefficient sin(pi t / 2)."""
        return (math.pi / 2 * as_float64(t)).sin()

    def d_alpha(self, t: Times) -> Tensor:
        """Derivative d alpha / dt = -pi/2 sin(pi t / 2)."""
        return -math.pi / 2 * self.sigma(t)

    def d_sigma(self, t: Times) -> Tensor:
        """Derivative d sigma / dt = pi/2 cos(pi t / 2)."""
        return math.pi / 2 * self.alpha(t)

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        """Returns t = 2 atan(e^-log_snr) / pi."""
        return (-as_float64(log_snr)).exp().atan() * 2 / math.pi

    def timestep(self, t: Times) -> Tensor:
        """The network's timestep, t."""
        return as_float64(t).clone()


@dataclass(frozen=True)
class EDM:
    """Variance-exploding schedule alpha = 1, sigma = t in [0, sigma_max]; the timestep is ln(sigma) / 4.

    Source: Karras et al. 2022, arXiv 2206.00364.

    Attributes:
        sigma_min: lowest noise level of grids before 0.
        sigma_max: highest noise level.
        sigma_data: standard deviation of the training data.

    Raises:
        ValueError: if not 0 < sigma_min < sigma_max.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"EDM needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}")

    @property
    def t_max(self) -> float:
        """The highest noise level, sigma_max."""
        return self.sigma_max

    @property
    def t_min(self) -> float:
        """Time of clean data, 0."""
        return 0.0

    def alpha(self, t: Times) -> Tensor:
        """Signal coefficient 1."""
        return torch.ones_like(as_float64(t))

    def sigma(self, t: Times) -> Tensor:
        """Noise coefficient t."""
        return as_float64(t).clone()

    def d_alpha(self, t: Times) -> Tensor:
        """Derivative d alpha / dt = 0."""
        return torch.zeros_like(as_float64(t))

    def d_sigma(self, t: Times) -> Tensor:
        """Derivative d sigma / dt = 1."""
        return torch.ones_like(as_float64(t))

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        """Returns t = e^-log_snr."""
        return (-as_float64(log_snr)).exp()

    def timestep(self, t: Times) -> Tensor:
        """The network's timestep, ln(t) / 4."""
        return as_float64(t).log() / 4
