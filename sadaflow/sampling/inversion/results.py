"""What inversion returns."""

from dataclasses import dataclass

from torch import Tensor

from sadaflow.solvers import Solver


@dataclass(frozen=True)
class InversionStats:
    """Cost and accuracy of an inversion.

    Attributes:
        method: "exact", "ode" or "edit-friendly".
        nfe: Network evaluations of each sample, with those of the run that measured `error`.
        iterations: Largest number of iterations that a step took; 1 for methods that solve no equation.
        error: How far from the state that was inverted a run from the noise ends, for each sample: root mean square,
            relative to that of the state.
    """

    method: str
    nfe: list[float]
    iterations: int
    error: list[float]


@dataclass(frozen=True)
class Inverted:
    """The noise from which sampling leads to given states.

    Attributes:
        x: States at the first point of the solver's grid, (B, ...).
        solver: The solver that leads back. Its grid ends at the least noise of training; a stochastic solver draws the
            noise that was found.
        stats: Cost and accuracy.
    """

    x: Tensor
    solver: Solver
    stats: InversionStats
