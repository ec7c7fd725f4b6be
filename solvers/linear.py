"""Linear solvers: each evaluation combines x, past outputs and noise with weights that are known in advance."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from .base import GridSolver, State
from .grid import Point
from .noise import NoiseSource
from .prediction import from_x0


@dataclass(frozen=True)
class Update:
    """Weights of one evaluation of a linear solver.

        x' = keep x + weights[0] x0 + sum_j weights[j] output_j + anchor a + noise z

    output_j is the output j evaluations ago, a is x at the latest evaluation with `anchors` set, the current one
    included, and z is unit-normal noise.

    Attributes:
        keep: weight of x.
        weights: weights of x0 and of past outputs, newest first.
        anchor: weight of the anchor a.
        anchors: whether x becomes the anchor.
        noise: standard deviation of the noise.
        span: interval of s = sigma / (alpha + sigma) that the noise belongs to.
    """

    keep: float
    weights: tuple[float, ...]
    anchor: float = 0.0
    anchors: bool = False
    noise: float = 0.0
    span: tuple[float, float] = (1.0, 0.0)


def add_updates(first: Update, second: Update) -> Update:
    """Returns the sum of two updates that have neither anchor nor noise."""
    longer, shorter = sorted((first.weights, second.weights), key=len, reverse=True)
    padded = (*shorter, *([0.0] * (len(longer) - len(shorter))))
    return Update(first.keep + second.keep, tuple(a + b for a, b in zip(longer, padded, strict=True)))


def scaled_with_noise(update: Update, factor: float, noise: float, span: tuple[float, float]) -> Update:
    """Returns `update`, which draws no noise, multiplied by `factor`, plus noise of standard deviation `noise`."""
    weights = tuple(factor * weight for weight in update.weights)
    keep, anchor = factor * update.keep, factor * update.anchor
    return Update(keep, weights, anchor, update.anchors, noise, span)


def first_order(start: Point, end: Point) -> Update:
    """Returns the first-order exponential step, exact for constant x0.

        x' = sigma'/sigma x + alpha' (1 - e^-h) x0,    h = log_snr' - log_snr

    If the step ends at sigma = 0 the result is alpha' x0 to the last bit. It also holds at alpha = 0, at either end.
    """
    keep = end.sigma / start.sigma
    if end.alpha == 0:
        return Update(keep, (-keep * start.alpha,))
    return Update(keep, (end.alpha * -math.expm1(start.log_snr - end.log_snr),))


def output_update(prediction: str, node: Point, keep: float, weights: tuple[float, ...]) -> Update:
    """Returns the update keep x + sum_j weights[j] output_j for outputs that all have one prediction type.

    The newest output is expressed by x and x0, which are available in a step.

    Args:
        prediction: prediction type of the outputs.
        node: where the newest output was computed.
        keep: weight of x.
        weights: weights of the outputs, newest first.
    """
    alpha, sigma, newest = node.alpha, node.sigma, weights[0]
    if prediction == "sample":
        return Update(keep, weights)
    if prediction == "epsilon":
        on_x, on_x0 = 1 / sigma, -alpha / sigma
    elif prediction == "v_prediction":
        on_x, on_x0 = alpha / sigma, -1 / sigma
    else:
        on_x, on_x0 = 1 / sigma, -(alpha + sigma) / sigma
    return Update(keep + newest * on_x, (newest * on_x0, *weights[1:]))


@dataclass(frozen=True, eq=False)
class LinearSolver(GridSolver):
    """Base class of solvers defined by their `updates`, one per evaluation, computed once as Python numbers."""

    @cached_property
    @abstractmethod
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""

    @property
    def output_type(self) -> str:
        """Prediction type of the outputs in the history."""
        return "sample"

    @cached_property
    def _memory(self) -> tuple[int, ...]:
        """Number of outputs that the state must hold after each evaluation."""
        needed, kept = 0, []
        for update in reversed(self.updates):
            kept.append(needed)
            needed = max(len(update.weights) - 1, needed - 1)
        return tuple(reversed(kept))

    def _check(self, state: State) -> Update:
        """Returns the update of a state's evaluation; raises ValueError if the state cannot be continued."""
        if not 0 <= state.step < self.n_evals:
            raise ValueError(f"there is no evaluation {state.step}: {type(self).__name__} ends after {self.n_evals}")
        update = self.updates[state.step]
        if len(state.history) < len(update.weights) - 1 or (update.anchor != 0 and state.anchor is None):
            raise ValueError(
                f"{type(self).__name__} at evaluation {state.step} needs a state from its own previous steps, with "
                f"{len(update.weights) - 1} past outputs; to start later, construct it over a grid of the later points"
            )
        return update

    def step(self, state: State, x0: Tensor) -> State:
        """Applies the update of evaluation `state.step`.

        Args:
            state: the current state.
            x0: (B, ...), the network's x0 at `state.x`.

        Returns:
            The next state.

        Raises:
            ValueError: if the trajectory has ended, or if the state lacks the history of earlier steps.
        """
        update, node = self._check(state), self.nodes[state.step]
        x = update.keep * state.x + update.weights[0] * x0
        for weight, output in zip(update.weights[1:], state.history, strict=False):
            if weight != 0:
                x = x + weight * output
        anchor = state.x if update.anchors else state.anchor
        if update.anchor != 0 and anchor is not None:
            x = x + update.anchor * anchor
        if update.noise != 0:
            x = x + update.noise * self.draw(state.step + 1, update.span, x)
        kept = self._memory[state.step]
        history = state.history[: max(kept - 1, 0)]
        if kept:
            output = from_x0(self.output_type, x0, state.x, node.alpha, node.sigma)
            history = (output, *history)
        return State(x, state.step + 1, history, anchor)

    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        """Returns the noise of one update; this class has no noise source and raises ValueError."""
        raise ValueError(f"{type(self).__name__} has no noise source")


@dataclass(frozen=True, eq=False)
class NoisySolver(LinearSolver):
    """Linear solver that draws noise from a pure function, so that its steps are pure too.

    Attributes:
        noise: the noise source; None if the solver is to draw no noise.
    """

    noise: NoiseSource | None = None

    def _require_falling(self, draws: bool) -> None:
        """Raises ValueError if the solver `draws` noise on a rising grid: only the ODE runs in both directions."""
        if draws:
            self.grid.require_falling(type(self).__name__, "it draws noise")

    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        """Returns unit-normal noise shaped as `like`; raises ValueError if the solver has no noise source."""
        if self.noise is None:
            raise ValueError(
                f"{type(self).__name__} draws noise: construct it with noise=SeededNoise(seeds), one seed per sample"
            )
        return self.noise(index, span, like)
