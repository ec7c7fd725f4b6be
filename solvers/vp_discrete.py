"""The variance-preserving schedule of a discrete noise table."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .schedule import Times, as_float64


@dataclass(frozen=True, eq=False)
class VPDiscrete:
    """Variance-preserving schedule of a table alphas_cumprod, with alpha^2 + sigma^2 = 1.

    t counts table entries: 0 is the first, T-1 the last, and -1 is clean data. Between entries sigma/alpha is linear in
    t, and beyond the last entry it continues with the last slope. The derivatives jump at an entry; there they are the
    mean of both sides.

    Attributes:
        alphas_cumprod: (T,), alpha^2 at each entry, strictly falling inside (0, 1).

    Raises:
        ValueError: if the table does not fall strictly or leaves (0, 1).
    """

    alphas_cumprod: Tensor

    def __repr__(self) -> str:
        return f"VPDiscrete({self.alphas_cumprod.numel()} entries)"

    def __post_init__(self) -> None:
        table = as_float64(self.alphas_cumprod)
        inside = bool(((table > 0) & (table < 1)).all())
        if table.ndim != 1 or table.numel() < 2 or not inside or not bool((table.diff() < 0).all()):
            raise ValueError(
                "VPDiscrete.alphas_cumprod must be 1-dimensional and strictly falling, with at least two entries "
                f"inside (0, 1), got shape {tuple(table.shape)}; replace a last entry of 0 by a small positive number"
            )

    @property
    def timestep_unit(self) -> float:
        """What rounding may change in a timestep: a table entry."""
        return 1.0

    @cached_property
    def _ratios(self) -> Tensor:
        """sigma/alpha at t = -1, 0, ..., T-1."""
        table = as_float64(self.alphas_cumprod)
        return torch.cat((table.new_zeros(1), ((1 - table) / table).sqrt()))

    @cached_property
    def _slopes(self) -> Tensor:
        """Slope of sigma/alpha in each interval between entries, (T,)."""
        return self._ratios.diff()

    @property
    def t_max(self) -> float:
        """Index of the last table entry, T-1."""
        return float(self.alphas_cumprod.numel() - 1)

    @property
    def t_min(self) -> float:
        """Time of clean data, -1."""
        return -1.0

    def _interval(self, t: Tensor) -> Tensor:
        """Index of the interval that contains t; -1 <= t < 0 is interval 0."""
        return (t.floor() + 1).long().clamp(0, self._slopes.numel() - 1)

    def _ratio(self, t: Times) -> Tensor:
        t = as_float64(t)
        k = self._interval(t)
        return (self._ratios[k] + self._slopes[k] * (t - (k - 1))).clamp(min=0)

    def _d_ratio(self, t: Times) -> Tensor:
        t = as_float64(t)
        k = self._interval(t)
        left = torch.where(t == t.floor(), (k - 1).clamp(min=0), k)
        left = torch.where(t >= self.t_max, k, left)
        return (self._slopes[left] + self._slopes[k]) / 2

    def alpha(self, t: Times) -> Tensor:
        """Signal coefficient (1 + r^2)^(-1/2), with r = sigma/alpha."""
        return (1 + self._ratio(t) ** 2).rsqrt()

    def sigma(self, t: Times) -> Tensor:
        """Noise coefficient r (1 + r^2)^(-1/2), with r = sigma/alpha."""
        return self._ratio(t) * self.alpha(t)

    def d_alpha(self, t: Times) -> Tensor:
        """Derivative d alpha / dt = -alpha^3 r r'."""
        return -self._ratio(t) * self.alpha(t) ** 3 * self._d_ratio(t)

    def d_sigma(self, t: Times) -> Tensor:
        """Derivative d sigma / dt = alpha^3 r'."""
        return self.alpha(t) ** 3 * self._d_ratio(t)

    def t_from_log_snr(self, log_snr: Times) -> Tensor:
        """Returns the fractional index at which log(alpha / sigma) has the given value."""
        ratio = (-as_float64(log_snr)).exp()
        k = (torch.searchsorted(self._ratios, ratio.contiguous(), right=True) - 1).clamp(0, self._slopes.numel() - 1)
        return (k - 1) + (ratio - self._ratios[k]) / self._slopes[k]

    def timestep(self, t: Times) -> Tensor:
        """The network's timestep: t, limited to table entries."""
        return as_float64(t).clamp(0, self.t_max)

    def log_interpolated_timestep(self, ratio: Times) -> Tensor:
        """Returns the fractional table index at which log(sigma/alpha), linear between entries, equals log(ratio).

        Published samplers pass this to the network in place of t on grids made of sigmas (Karras and similar).
        """
        log_table, log_ratio = self._ratios[1:].log(), as_float64(ratio).log()
        right = torch.searchsorted(log_table, log_ratio.contiguous(), right=True) - 1
        k = right.clamp(0, log_table.numel() - 2)
        weight = (log_ratio - log_table[k]) / (log_table[k + 1] - log_table[k])
        return k + weight.clamp(0, 1)
