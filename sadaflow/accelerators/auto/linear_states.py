"""States of a linear solver as weighted sums of the first state and of the x0 of every step."""

from dataclasses import replace

import numpy as np
import torch

from sadaflow.solvers import Solver

from ..history import Array
from ..replay import tensors_of


def linear_states(solver: Solver) -> tuple[Array, ...]:
    """Weights from which a solver's states follow, if it is linear and draws no noise.

    Args:
        solver: The solver, with its grid of N evaluations.

    Returns:
        For every step 0 to N, the weights of the tensors of its state (in the order of `tensors_of`): of the first
        state's x, then of x0 at steps 0 to N - 1, (tensors, N + 1). The last entry is the end of the run.
    """
    steps = solver.n_evals
    unit = torch.eye(steps + 1, dtype=torch.float64)[:, None]
    state = solver.start(torch.zeros_like(unit[0]))
    state = replace(state, x=unit[0])
    found = [state]
    for step in range(steps):
        state = solver.step(state, unit[step + 1])
        found.append(state)
    return tuple(np.stack([tensor[0].numpy() for tensor in tensors_of(each)]) for each in found)
