"""Wrong velocities."""

from dataclasses import dataclass, field

from torch import Tensor

from sadaflow.solvers import State

from .kinds import Ddim, wrong


@wrong("eps is returned", "velocity")
class ReturnsEps(Ddim):
    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        node = self.nodes[step]
        return (x - node.alpha * x0) / node.sigma


@wrong("eps - x0 is returned on every schedule", "velocity")
class ReturnsFlow(Ddim):
    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        node = self.nodes[step]
        return (x - node.alpha * x0) / node.sigma - x0


@wrong("the velocity points along sampling, not along t", "velocity")
class Negative(Ddim):
    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        return -super().velocity(x, x0, step)


@wrong("the velocity is negated at the last node", "velocity")
class NegativeAtTheEnd(Ddim):
    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        y = super().velocity(x, x0, step)
        return -y if step == self.n_evals - 1 else y


@wrong("the velocity is the step taken, divided by its length", "velocity")
class Difference(Ddim):
    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        here, there = self.grid.points[step : step + 2]
        return (self.moved(State(x, step), x0) - x) / (there.t - here.t)


@wrong("the velocity of the next node", "velocity")
class NextNode(Ddim):
    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        return super().velocity(x, x0, min(step + 1, self.n_evals - 1))


@wrong("alpha' is left out, as on EDM", "velocity")
class NoAlphaPrime(Ddim):
    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        node = self.nodes[step]
        return float(self.grid.schedule.d_sigma(node.t)) * (x - node.alpha * x0) / node.sigma


@wrong("the derivative of log alpha, which is infinite at alpha = 0", "velocity")
class LogDerivative(Ddim):
    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        node, schedule = self.nodes[step], self.grid.schedule
        f = float(schedule.d_alpha(node.t)) / node.alpha
        eps = (x - node.alpha * x0) / node.sigma
        return f * x + (float(schedule.d_sigma(node.t)) - f * node.sigma) * eps


@wrong("the velocity uses the x0 of the last step, kept in the object", "velocity")
@dataclass(frozen=True, eq=False)
class StaleVelocity(Ddim):
    kept: list[Tensor] = field(default_factory=list)

    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        old = self.kept[-1] if self.kept and self.kept[-1].shape == x0.shape else x0
        self.kept[:] = [x0]
        return super().velocity(x, old, step)


@wrong("the velocity is the mean over the batch", "velocity")
class MeanVelocity(Ddim):
    def velocity(self, x: Tensor, x0: Tensor, step: int) -> Tensor:
        return super().velocity(x, x0, step).mean(0, keepdim=True).expand_as(x)
