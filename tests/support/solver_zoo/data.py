"""Solvers that change x0, or that mix the samples of a batch."""

import torch
from torch import Tensor

from sadaflow.solvers import State

from .kinds import Ddim, wrong


class _Changed(Ddim):
    """Ddim on a changed x0."""

    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0

    def moved(self, state: State, x0: Tensor) -> Tensor:
        return super().moved(state, self.change(x0, state.step))


@wrong("x0 is clamped to [-1, 1], as for pictures", "trajectory")
class Clamped(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0.clamp(-1, 1)


@wrong("x0 is clamped to [-10, 10]", "trajectory")
class ClampedWide(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0.clamp(-10, 10)


@wrong("dynamic thresholding with a quantile of each sample", "trajectory")
class Thresholded(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        top = x0.flatten(1).abs().quantile(0.9, 1).clamp(min=1.0)
        return x0 / top.reshape(-1, *[1] * (x0.ndim - 1))


@wrong("a maximum over channels, which only states of four dimensions have", "shapes")
class ChannelMaximum(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0 / x0.abs().amax((1, 2, 3), keepdim=True).clamp(min=1.0) if x0.ndim == 4 else x0


@wrong("written for (B, C, H, W) alone", "shapes")
class FourDimensions(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return torch.einsum("bchw->bchw", x0) if x0.ndim != 2 else x0


@wrong("a factor for latents of 4 channels", "shapes")
class FourChannels(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0 * 1.001 if x0.ndim > 2 and x0.shape[1] == 4 else x0


@wrong("the last axis is taken for the channels", "shapes")
class LastAxis(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0 + 1e-3 * (x0 - x0.mean(-1, keepdim=True))


@wrong("x0 is centred over each sample", "trajectory")
class Centred(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0 - x0.flatten(1).mean(1).reshape(-1, *[1] * (x0.ndim - 1))


@wrong("x0 is pulled towards the mean of the batch", "batch invariance")
class BatchMean(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0 + 1e-6 * (x0.mean(0, keepdim=True) - x0)


@wrong("x0 is normalised over the batch", "batch invariance")
class BatchNorm(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0 / x0.std(0, keepdim=True).clamp(min=1.0) if len(x0) > 1 else x0


@wrong("a norm over the batch in batches above 8", "batch invariance")
class LargeBatch(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0 / x0.norm().clamp(min=1.0) if len(x0) > 8 else x0


@wrong("the first sample decides for all", "batch invariance")
class FirstSample(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0 * (1 + 1e-4 * (x0[:1].flatten(1).sum(1) > 0).to(x0)).reshape(1, *[1] * (x0.ndim - 1))


@wrong("the size of the batch is taken for the number of steps", "batch invariance")
class BatchForSteps(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0 * (1 - 1e-3 * step / len(x0))


@wrong("neighbours in the batch are interpolated", "batch invariance")
class Neighbours(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0 + 1e-5 * x0.roll(1, 0)


@wrong("the last step but one is not taken on grids to clean data", "trajectory")
class LeavesOneOut(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        points = self.grid.points
        left = points[-1].sigma == 0 and state.step == self.grid.n_steps - 2
        return state.x if left else super().moved(state, x0)


@wrong("1000 timesteps are hard-coded into a weight", "trajectory")
class Thousand(_Changed):
    def change(self, x0: Tensor, step: int) -> Tensor:
        return x0 * (1 + self.grid.points[step].t / 1000)
