"""Solvers that lose digits, dtypes or gradients, or that wait for the device."""

import numpy as np
import torch
from torch import Tensor

from sadaflow.solvers import State

from .kinds import Ddim, TwoStep, wrong


class _Weighted(Ddim):
    """Ddim whose two weights are made by a method."""

    def weights(self, step: int) -> tuple[float, float]:
        here, there = self.grid.points[step : step + 2]
        keep = there.sigma / here.sigma
        return keep, there.alpha - keep * here.alpha

    def moved(self, state: State, x0: Tensor) -> Tensor:
        keep, weight = self.weights(state.step)
        return keep * state.x + weight * x0


@wrong("weights are float64 tensors with one element, which win over float32", "dtype")
class Upcast(_Weighted):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        keep, weight = (torch.tensor([value], dtype=torch.float64) for value in self.weights(state.step))
        return keep * state.x + weight * x0


@wrong("x is computed in float32, and returned so", "dtype")
class AlwaysFloat32(_Weighted):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        return super().moved(state, x0).float()


@wrong("the history is kept in bfloat16 to save memory", "dtype")
class HalfHistory(TwoStep):
    def step(self, state: State, x0: Tensor) -> State:
        after = super().step(State(state.x, state.step, tuple(part.to(x0) for part in state.history)), x0)
        return State(after.x, after.step, (x0.bfloat16(),))


@wrong("x0 is rounded to bfloat16 within the step", "gradients")
class RoundsInside(_Weighted):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        return super().moved(state, x0.bfloat16().to(x0))


@wrong("velocity is returned in float32", "dtype")
class VelocityFloat32(Ddim):
    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        return super().velocity(x, x0, step).float() if x.dtype != torch.float64 else super().velocity(x, x0, step)


@wrong("weights are rounded to float32", "constant x0")
class Float32Weights(_Weighted):
    def weights(self, step: int) -> tuple[float, float]:
        keep, weight = super().weights(step)
        return float(np.float32(keep)), float(np.float32(weight))


@wrong("weights are tensors of the default dtype", "constant x0")
class DefaultDtype(_Weighted):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        keep, weight = (torch.tensor(value) for value in self.weights(state.step))
        return keep * state.x + weight * x0


@wrong("weights are tensors of the default dtype, read once", "default dtype")
class DefaultDtypeRatio(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        small = torch.zeros(()) + 1e-9
        return super().moved(state, x0) * (1 + small)


@wrong("weights are rounded to six digits", "constant x0")
class SixDigits(_Weighted):
    def weights(self, step: int) -> tuple[float, float]:
        keep, weight = super().weights(step)
        return round(keep, 6), round(weight, 6)


@wrong("x0 is detached", "gradients")
class Detached(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        return super().moved(state, x0.detach())


@wrong("the history is detached, to save memory", "gradients")
class DetachedHistory(TwoStep):
    def step(self, state: State, x0: Tensor) -> State:
        after = super().step(state, x0)
        return State(after.x, after.step, (x0.detach(),))


@wrong("step runs without gradients", "gradients")
class NoGradients(Ddim):
    @torch.no_grad()
    def moved(self, state: State, x0: Tensor) -> Tensor:
        return super().moved(state, x0)


@wrong("velocity is detached", "gradients")
class DetachedVelocity(Ddim):
    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        return super().velocity(x, x0, step).detach()


@wrong("the size of x0 is read with item()", "host reads")
class ReadsItem(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        return super().moved(state, x0 * (1.0 if x0.abs().max().item() < 1e6 else 0.5))


@wrong("a branch depends on the values of x", "host reads")
class Branches(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        return super().moved(state, x0.clamp(-1e6, 1e6) if (x0.abs() > 1e6).any() else x0)


@wrong("the past output goes through NumPy", "host reads")
class ThroughNumpy(TwoStep):
    def step(self, state: State, x0: Tensor) -> State:
        after = super().step(state, x0)
        return State(after.x, after.step, (torch.from_numpy(x0.detach().numpy().copy()),))


@wrong("weights are made on the CPU as a vector", "host reads")
class OnTheCpu(_Weighted):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        weights = torch.tensor(self.weights(state.step), dtype=x0.dtype)
        return (weights[:, None] * torch.stack([state.x, x0]).flatten(1)).sum(0).view_as(x0)


@wrong("each step prints a line", "compile")
class Prints(Ddim):
    def moved(self, state: State, x0: Tensor) -> Tensor:
        print("", end="")
        return super().moved(state, x0)
