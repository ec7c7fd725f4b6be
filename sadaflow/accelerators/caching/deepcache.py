"""DeepCache (Ma et al., CVPR 2024, arXiv 2312.00858): the deep features of a U-Net are reused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sadaflow.models import Seam, Site
from sadaflow.solvers import Solver

from ..base import Mode
from ..history import RowStore
from ..settings import check_numbers, check_whole
from .base import ScheduledRun

_REFERENCE_STEPS = 50  # the step count for which the paper states `centre`
_LESS_POWER = 0.02


@dataclass(frozen=True)
class DeepCache:
    """Computes the whole U-Net at some steps, and only its outermost layers at the others.

    A cached step computes the first `branch` skip connections, the layers that consume them, and the layer that
    consumes the next one. What these layers read from deeper in the network is that of the last full step. A ControlNet
    runs at every step.

    Memory: one feature map per sample and guidance branch, whatever the number of steps.

    Attributes:
        interval: Every `interval`-th step is full; with `uniform=False`, as many steps are.
        branch: Index of the skip connection at which the network is cut; 0 leaves one layer of the U-Net.
        uniform: Whether full steps are evenly spaced. Otherwise they are denser around `centre`.
        power: How much denser, above 1. It is lowered until the number of full steps is right (see `full_steps`).
        centre: Step around which they are dense, at 50 steps; in proportion at others.
    """

    interval: int = 3
    branch: int = 0
    uniform: bool = True
    power: float = 1.4
    centre: float = 15.0

    def __post_init__(self) -> None:
        check_whole(self, interval=1, branch=0)
        check_numbers(self, "power", above=1)
        check_numbers(self, "centre", above=0)

    def begin(self, solver: Solver, shape: torch.Size, *, seams: bool) -> "_Run":
        return _Run(self, solver, shape, seams)

    def full_steps(self, steps: int) -> frozenset[int]:
        """Indices of those of `steps` steps that compute the whole network.

        Raises:
            ValueError: if no power gives the right number of steps.
        """
        if self.uniform:
            return frozenset(range(0, steps, self.interval))
        count, centre = -(-steps // self.interval), round(self.centre * steps / _REFERENCE_STEPS)
        power = self.power
        while power > 1:
            # Below the centre the root is complex; the published code takes the real part of the power.
            ends = complex(-centre) ** (1 / power), complex(steps - centre) ** (1 / power)
            offsets = np.unique(np.trunc((np.linspace(*ends, count + 1) ** power).real).astype(int))
            if len(offsets) == count + 1:
                return frozenset([0, *(int(offset) + centre for offset in offsets[1:-1])])
            power -= _LESS_POWER
        raise ValueError(
            f"accelerator 'deepcache' finds no {count} of {steps} steps around step {centre}: take more steps, a "
            "larger interval or uniform=True"
        )


class _Run(ScheduledRun):
    name = "deepcache"
    sites = frozenset({"deep"})

    def __init__(self, settings: DeepCache, solver: Solver, shape: torch.Size, seams: bool) -> None:
        super().__init__(solver, shape, seams, settings.full_steps)
        self.branch = settings.branch
        self.needs = f"a U-Net with more than {settings.branch} skip connections"
        self.cache = RowStore(self.samples)

    def seam(self, step: int, mode: Mode, rows: Sequence[int]) -> Seam:
        met = 0

        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            nonlocal met
            met += site.kind == "deep"
            if site.kind != "deep" or met - 1 != self.branch:
                return fn(hidden, *args)
            if mode is Mode.CACHED:
                return self.cache.take(rows)
            self.met = True
            output = fn(hidden, *args)
            self.cache.put(rows, output)
            return output

        return seam
