"""A guidance rule at work on the evaluations of one run."""

from collections.abc import Sequence

from torch import Tensor

from sadaflow.solvers import Node, Prediction, Solver

from .base import CLEAN, Branches, Needs, Rule, moments_of


class GuidanceRun:
    """A rule with the evaluations of a run and the memory of its samples.

    Args:
        rule: The rule.
        nodes: The points of the evaluations.
        prediction: What the network predicts.
        samples: Number of samples in the batch, B.
        solver: The solver; None takes the grid to end at clean data.

    Raises:
        ValueError: If the rule does not fit.
    """

    def __init__(
        self, rule: Rule, nodes: Sequence[Node], prediction: Prediction, samples: int, solver: Solver | None = None
    ) -> None:
        self.rule, self.prediction, self.samples = rule, prediction, samples
        self.moments = moments_of(nodes, CLEAN if solver is None else solver.grid.points[-1])
        rule.check(prediction, self.moments, solver)
        self._needs = [rule.needs(moment) for moment in self.moments]
        self._memory = rule.begin(samples)

    def begun(self, nodes: Sequence[Node], solver: Solver) -> "GuidanceRun":
        """The rule at the beginning of a run of a solver."""
        return GuidanceRun(self.rule, nodes, self.prediction, self.samples, solver)

    @property
    def branches(self) -> int:
        """Number of branches of a full evaluation."""
        return 2 + self.rule.further

    def needs(self, step: int) -> Needs:
        """Which branches are evaluated at evaluation `step`."""
        return self._needs[step]

    def share(self, step: int) -> float:
        """Cost of evaluation `step`, in units of an evaluation of all branches."""
        return {Needs.ALL: 1.0, Needs.CONDITIONAL: 1 / self.branches, Needs.NOTHING: 0.0}[self.needs(step)]

    def guided(self, outputs: Sequence[Tensor], x: Tensor, step: int, rows: Sequence[int]) -> Tensor:
        """The guided prediction.

        Args:
            outputs: Predictions of all branches (R, ...), the negative one first, the conditional one last.
            x: States, (R, ...).
            step: Index of the evaluation.
            rows: Indices of these samples in the batch.
        """
        exact = tuple(output.to(x.dtype) for output in outputs)
        return self.rule.guided(Branches(exact, x, rows, self.moments[step], self.prediction), self._memory)


def require_pointwise(rule: Rule) -> None:
    """Raises ValueError if a rule needs the steps of a run, which an adaptive solver does not know beforehand."""
    if not rule.pointwise:
        raise ValueError(
            f"guidance by {type(rule).__name__} depends on the step, and an adaptive solver's steps are not known "
            "beforehand: use a constant scale, or another solver"
        )
