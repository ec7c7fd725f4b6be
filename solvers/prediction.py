"""What a network may predict, and the way to x0 and back."""

from typing import Final

from torch import Tensor

PREDICTIONS: Final = ("epsilon", "v_prediction", "sample", "flow_prediction")
_ALIASES: Final = {"eps": "epsilon", "v": "v_prediction", "x0": "sample", "flow": "flow_prediction"}


def _kind(kind: str, alpha: float, sigma: float) -> str:
    name = _ALIASES.get(kind, kind)
    if name not in PREDICTIONS:
        raise ValueError(f"unknown prediction type {kind!r}; known are {', '.join(PREDICTIONS)}")
    if name == "v_prediction" and abs(alpha * alpha + sigma * sigma - 1) > 1e-6:
        raise ValueError(
            f"v_prediction needs alpha^2 + sigma^2 = 1, got alpha={alpha:.6g}, sigma={sigma:.6g}; "
            "use it on a variance-preserving schedule"
        )
    return name


def to_x0(kind: str, output: Tensor, x: Tensor, alpha: float, sigma: float) -> Tensor:
    """x0 from a network's output at x = alpha x0 + sigma eps, all of one shape.

    epsilon: eps; v_prediction: alpha eps - sigma x0 (Salimans & Ho 2022, arXiv 2202.00512); sample: x0;
    flow_prediction: eps - x0. Raises ValueError for another kind, where v is undefined, and for epsilon at alpha = 0.
    """
    name = _kind(kind, alpha, sigma)
    if name == "sample":
        return output
    if name == "epsilon":
        if alpha == 0:
            raise ValueError("epsilon says nothing about x0 where alpha = 0; use v_prediction, flow or sample there")
        return (x - sigma * output) / alpha
    if name == "v_prediction":
        return alpha * x - sigma * output
    return (x - sigma * output) / (alpha + sigma)


def from_x0(kind: str, x0: Tensor, x: Tensor, alpha: float, sigma: float) -> Tensor:
    """The output of kind `kind` that `to_x0` turns into x0. Raises ValueError where sigma = 0, except for `sample`."""
    name = _kind(kind, alpha, sigma)
    if name == "sample":
        return x0
    if sigma == 0:
        raise ValueError(f"{kind} is undefined where sigma = 0")
    if name == "epsilon":
        return (x - alpha * x0) / sigma
    if name == "v_prediction":
        return (alpha * x - x0) / sigma
    return (x - (alpha + sigma) * x0) / sigma
