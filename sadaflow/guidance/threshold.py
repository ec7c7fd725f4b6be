"""Dynamic thresholding."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .base import Branches, Wrapper


@dataclass(frozen=True)
class Threshold(Wrapper):
    """Dynamic thresholding of the guided x0: a sample that leaves [-limit, limit] is clipped and scaled back into it.

    With s the quantile of |x0| over a sample, and at least `limit`: x0 = clip(x0, -s, s) limit / s. It acts where the
    inner rule guides. It is made for networks of pixels in [-1, 1]; latents need a limit of their own.

    Source: Saharia et al. 2022, arXiv 2205.11487, section 2.3.

    Attributes:
        quantile: The quantile, above 0 and up to 1.
        limit: Largest |x0| of data.
    """

    quantile: float = 0.995
    limit: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.quantile <= 1:
            raise ValueError(f"Threshold.quantile must be above 0 and at most 1, got {self.quantile!r}")
        if not self.limit > 0:
            raise ValueError(f"Threshold.limit must be above 0, got {self.limit!r}")

    def guided(self, branches: Branches, memory: Any) -> Tensor:
        x0 = branches.x0(super().guided(branches, memory))
        bound = _quantile(x0.abs().flatten(1), self.quantile).clamp(min=self.limit)
        bound = bound.view(-1, *[1] * (x0.dim() - 1))
        return branches.output(torch.clamp(x0, -bound, bound) * (self.limit / bound))


def _quantile(values: Tensor, quantile: float) -> Tensor:
    """The quantile of each row (R, n), between the two nearest values; `torch.quantile` takes 16 million at most."""
    position = quantile * (values.shape[1] - 1)
    lower = int(position)
    largest = values.sort(dim=1).values
    first, second = largest[:, lower], largest[:, min(lower + 1, values.shape[1] - 1)]
    return first + (position - lower) * (second - first)
