"""The machine behind the solvers: every one of them mixes x, past answers and noise linearly, with known weights."""

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
    """What one evaluation does: x' = keep x + weights[0] x0 + sum_j weights[j] answer_j + anchor a + noise z.

    answer_j is the answer of the j-th last evaluation, `a` is x at the last evaluation whose update had `anchors` set
    (this one included), z is a unit-normal draw. `span` is the interval of s = sigma / (alpha + sigma) z belongs to.
    """

    keep: float
    weights: tuple[float, ...]
    anchor: float = 0.0
    anchors: bool = False
    noise: float = 0.0
    span: tuple[float, float] = (1.0, 0.0)


def plus(first: Update, second: Update) -> Update:
    """The sum of two updates that set no anchor and draw no noise."""
    longer, shorter = sorted((first.weights, second.weights), key=len, reverse=True)
    padded = (*shorter, *([0.0] * (len(longer) - len(shorter))))
    return Update(first.keep + second.keep, tuple(a + b for a, b in zip(longer, padded, strict=True)))


def carried_on(update: Update, factor: float, noise: float, span: tuple[float, float]) -> Update:
    """`update`, which draws no noise, times a factor, plus noise of standard deviation `noise`."""
    weights = tuple(factor * weight for weight in update.weights)
    keep, anchor = factor * update.keep, factor * update.anchor
    return Update(keep, weights, anchor, update.anchors, noise, span)


def first_order(start: Point, end: Point) -> Update:
    """x' = sigma'/sigma x + alpha' (1 - e^-h) x0, h the step in log-SNR: exact while x0 stays constant.

    Where the step ends at sigma = 0 this is alpha' x0 to the last bit; it holds at alpha = 0 too.
    """
    return Update(end.sigma / start.sigma, (end.alpha * -math.expm1(start.log_snr - end.log_snr),))


def answered(kind: str, node: Point, keep: float, weights: tuple[float, ...]) -> Update:
    """The update keep x + sum_j weights[j] answer_j where all answers, the newest too, are of a prediction kind.

    The newest answer is turned into its parts x and x0, which a step has at hand.
    """
    alpha, sigma, newest = node.alpha, node.sigma, weights[0]
    if kind == "sample":
        return Update(keep, weights)
    if kind == "epsilon":
        on_x, on_x0 = 1 / sigma, -alpha / sigma
    elif kind == "v_prediction":
        on_x, on_x0 = alpha / sigma, -1 / sigma
    else:
        on_x, on_x0 = 1 / sigma, -(alpha + sigma) / sigma
    return Update(keep + newest * on_x, (newest * on_x0, *weights[1:]))


@dataclass(frozen=True, eq=False)
class LinearSolver(GridSolver):
    """A solver given by its `updates`, one per evaluation, computed once as plain numbers."""

    @cached_property
    @abstractmethod
    def updates(self) -> tuple[Update, ...]:
        """The updates of all evaluations, in order."""

    @property
    def answer(self) -> str:
        """The prediction kind of the answers in the history."""
        return "sample"

    @cached_property
    def _memory(self) -> tuple[int, ...]:
        """How many answers the state after each evaluation must hold."""
        needed, memory = 0, []
        for update in reversed(self.updates):
            memory.append(needed)
            needed = max(len(update.weights) - 1, needed - 1)
        return tuple(reversed(memory))

    def _check(self, state: State) -> Update:
        if not 0 <= state.step < self.n_evals:
            raise ValueError(f"there is no evaluation {state.step}: {type(self).__name__} ends after {self.n_evals}")
        update = self.updates[state.step]
        if len(state.history) < len(update.weights) - 1 or (update.anchor != 0 and state.anchor is None):
            raise ValueError(
                f"{type(self).__name__} at evaluation {state.step} needs the state that its own steps return, with "
                f"{len(update.weights) - 1} past answers; to start late, make it over a grid of the later points"
            )
        return update

    def step(self, state: State, x0: Tensor) -> State:
        update, node = self._check(state), self.nodes[state.step]
        x = update.keep * state.x + update.weights[0] * x0
        for weight, answer in zip(update.weights[1:], state.history, strict=False):
            if weight != 0:
                x = x + weight * answer
        anchor = state.x if update.anchors else state.anchor
        if update.anchor != 0 and anchor is not None:
            x = x + update.anchor * anchor
        if update.noise != 0:
            x = x + update.noise * self.draw(state.step + 1, update.span, x)
        memory = self._memory[state.step]
        history = state.history[: max(memory - 1, 0)]
        if memory:
            newest = x0 if self.answer == "sample" else from_x0(self.answer, x0, state.x, node.alpha, node.sigma)
            history = (newest, *history)
        return State(x, state.step + 1, history, anchor)

    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        raise ValueError(f"{type(self).__name__} has no noise source")


@dataclass(frozen=True, eq=False)
class NoisySolver(LinearSolver):
    """A linear solver that draws noise from `noise`, a pure function, so that its steps are pure too."""

    noise: NoiseSource | None = None

    def draw(self, index: int, span: tuple[float, float], like: Tensor) -> Tensor:
        """Unit-normal noise shaped as `like`. Raises ValueError where the solver was made without a noise source."""
        if self.noise is None:
            raise ValueError(
                f"{type(self).__name__} draws noise: make it with noise=SeededNoise(seeds), a seed a sample"
            )
        return self.noise(index, span, like)
