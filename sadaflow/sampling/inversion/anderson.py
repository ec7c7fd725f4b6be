"""Anderson acceleration of fixed-point iterations, for each sample of a batch by itself."""

from typing import Final

import torch
from torch import Tensor

DEPTH: Final = 3
"""Number of past differences that are combined."""

_RIDGE: Final = 1e-10


def combined(states: list[Tensor], residuals: list[Tensor]) -> Tensor:
    """The next state of a fixed-point iteration x = x + residual(x).

    The combination of the past states is taken whose residual, if it were linear, would be smallest. With a single
    state it is the plain iteration.

    Source: Walker & Ni 2011, Anderson acceleration for fixed-point iterations, SIAM J. Numer. Anal. 49, eq. 2.2.

    Args:
        states: The last states (B, ...), newest first.
        residuals: Their residuals (B, ...).

    Returns:
        The next states, (B, ...).
    """
    x, residual = states[0], residuals[0]
    if len(states) == 1:
        return x + residual
    moves, changes = _differences(states), _differences(residuals)
    products = changes.transpose(1, 2) @ changes
    ridge = _RIDGE * products.diagonal(dim1=1, dim2=2).mean(1) + torch.finfo(torch.float64).tiny
    products = products + ridge[:, None, None] * torch.eye(products.shape[1], dtype=torch.float64, device=x.device)
    weights = torch.linalg.solve(products, changes.transpose(1, 2) @ residual.flatten(1)[..., None].double())
    correction = ((moves + changes) @ weights)[..., 0].view_as(x)
    return x + residual - correction.to(x)


def _differences(tensors: list[Tensor]) -> Tensor:
    """Differences of each tensor (B, ...) and the one after it: (B, elements, len(tensors) - 1), float64."""
    pairs = zip(tensors, tensors[1:], strict=False)
    return torch.stack([(newer.double() - older.double()).flatten(1) for newer, older in pairs], dim=2)
