"""Noise schedules: alpha(t) and sigma(t) of x_t = alpha x0 + sigma eps, with their derivatives, in float64.

Time t decreases along sampling, from `t_max` (noise) to `t_min` (data).
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

Times = Tensor | float


def _float64(values: Times) -> Tensor:
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


@dataclass(frozen=True, eq=False)
class VPDiscrete:
    """The variance-preserving schedule of a discrete table alphas_cumprod (T,), alpha^2 + sigma^2 = 1.

    t counts table entries: 0 is the first, T-1 the last, and -1 is clean data. Between entries sigma/alpha is linear in
    t (beyond the last one it goes on with the last slope), so the derivatives jump at an entry; there they are the
    mean of both sides. Raises ValueError unless the table falls strictly and lies inside (0, 1).
    """

    alphas_cumprod: Tensor

    def __post_init__(self) -> None:
        table = _float64(self.alphas_cumprod)
        inside = bool(((table > 0) & (table < 1)).all())
        if table.ndim != 1 or table.numel() < 2 or not inside or not bool((table.diff() < 0).all()):
            raise ValueError(
                "VPDiscrete.alphas_cumprod must be one strictly falling row of at least two numbers inside (0, 1), "
                f"got shape {tuple(table.shape)}; a table that ends at 0 needs zero_terminal_snr's small last entry"
            )

    @cached_property
    def _ratios(self) -> Tensor:
        """sigma/alpha at t = -1, 0, ..., T-1."""
        table = _float64(self.alphas_cumprod)
        return torch.cat((table.new_zeros(1), ((1 - table) / table).sqrt()))

    @cached_property
    def _slopes(self) -> Tensor:
        return self._ratios.diff()

    @property
    def t_max(self) -> float:
        return float(self.alphas_cumprod.numel() - 1)

    @property
    def t_min(self) -> float:
        return -1.0

    def _interval(self, t: Tensor) -> Tensor:
        """Index of the interval t lies in; -1 <= t < 0 is interval 0."""
        return (t.floor() + 1).long().clamp(0, self._slopes.numel() - 1)

    def _ratio(self, t: Times) -> Tensor:
        t = _float64(t)
        k = self._interval(t)
        return (self._ratios[k] + self._slopes[k] * (t - (k - 1))).clamp(min=0)

    def _d_ratio(self, t: Times) -> Tensor:
        t = _float64(t)
        k = self._interval(t)
        left = torch.where(t == t.floor(), (k - 1).clamp(min=0), k)
        left = torch.where(t >= self.t_max, k, left)
        return (self._slopes[left] + self._slopes[k]) / 2

    def alpha(self, t: Times) -> Tensor:
        return (1 + self._ratio(t) ** 2).rsqrt()

    def sigma(self, t: Times) -> Tensor:
        return self._ratio(t) * self.alpha(t)

    def d_alpha(self, t: Times) -> Tensor:
        return -self._ratio(t) * self.alpha(t) ** 3 * self._d_ratio(t)

    def d_sigma(self, t: Times) -> Tensor:
        return self.alpha(t) ** 3 * self._d_ratio(t)

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        ratio = (-_float64(log_snr)).exp()
        k = (torch.searchsorted(self._ratios, ratio.contiguous(), right=True) - 1).clamp(0, self._slopes.numel() - 1)
        return (k - 1) + (ratio - self._ratios[k]) / self._slopes[k]

    def timestep(self, t: Times) -> Tensor:
        return _float64(t).clamp(0, self.t_max)

    def log_interpolated_timestep(self, ratio: Times) -> Tensor:
        """Fractional table index at which log(sigma/alpha), linear between entries, has the value log(ratio).

        The published samplers tell the network this, not t, on grids made of sigmas (Karras and the like).
        """
        log_table, log_ratio = self._ratios[1:].log(), _float64(ratio).log()
        right = torch.searchsorted(log_table, log_ratio.contiguous(), right=True) - 1
        k = right.clamp(0, log_table.numel() - 2)
        weight = (log_ratio - log_table[k]) / (log_table[k + 1] - log_table[k])
        return k + weight.clamp(0, 1)


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
        return 1 - _float64(t)

    def sigma(self, t: Times) -> Tensor:
        return _float64(t).clone()

    def d_alpha(self, t: Times) -> Tensor:
        return -torch.ones_like(_float64(t))

    def d_sigma(self, t: Times) -> Tensor:
        return torch.ones_like(_float64(t))

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        return torch.sigmoid(-_float64(log_snr))

    def timestep(self, t: Times) -> Tensor:
        return self.timestep_scale * _float64(t)


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
        return (math.pi / 2 * (1 - _float64(t))).sin()  # 0 at t = 1, where the cosine of pi / 2 in float64 is not

    def sigma(self, t: Times) -> Tensor:
        return (math.pi / 2 * _float64(t)).sin()

    def d_alpha(self, t: Times) -> Tensor:
        return -math.pi / 2 * self.sigma(t)

    def d_sigma(self, t: Times) -> Tensor:
        return math.pi / 2 * self.alpha(t)

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        return (-_float64(log_snr)).exp().atan() * 2 / math.pi

    def timestep(self, t: Times) -> Tensor:
        return _float64(t).clone()


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
        return torch.ones_like(_float64(t))

    def sigma(self, t: Times) -> Tensor:
        return _float64(t).clone()

    def d_alpha(self, t: Times) -> Tensor:
        return torch.zeros_like(_float64(t))

    def d_sigma(self, t: Times) -> Tensor:
        return torch.ones_like(_float64(t))

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        return (-_float64(log_snr)).exp()

    def timestep(self, t: Times) -> Tensor:
        return _float64(t).log() / 4
