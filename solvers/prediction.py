"""What a network may predict, and the conversions to x0 and back."""

import math
from dataclasses import dataclass
from typing import Final

from torch import Tensor

PREDICTIONS: Final = ("epsilon", "v_prediction", "sample", "flow_prediction")
_ALIASES: Final = {"eps": "epsilon", "v": "v_prediction", "x0": "sample", "flow": "flow_prediction"}
_SIGNS: Final = {"epsilon": 1.0, "v_prediction": -1.0}


@dataclass(frozen=True)
class Preconditioned:
    """The output F of a network preconditioned as in EDM: x0 = c_skip x + c_out F, with network input c_in x.

    With n^2 = alpha^2 sigma_data^2 + sigma^2 the factors are c_in = 1 / n, c_skip = alpha sigma_data^2 / n^2 and
    c_out = sigma sigma_data / n. At alpha = 1 these are the factors of Karras et al. 2022 (arXiv 2206.00364), Table 1.
    For sigma_data = 1 on a variance-preserving schedule c_in is 1 and -F is the v of Salimans & Ho.

    Args:
        sigma_data: standard deviation of the training data.
        kind: "epsilon", or "v_prediction" for the opposite sign of c_out, as Diffusers' EDM schedulers use the names.

    Raises:
        ValueError: if `sigma_data` is not positive and finite, or `kind` is neither of the two.
    """

    sigma_data: float = 0.5
    kind: str = "epsilon"

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < math.inf:
            raise ValueError(f"sigma_data must be above 0 and finite, got {self.sigma_data}")
        if self.kind not in _SIGNS:
            raise ValueError(f"an EDM-preconditioned network has prediction {' or '.join(_SIGNS)}, got {self.kind!r}")

    def __str__(self) -> str:
        return f"{self.kind} with EDM preconditioning (sigma_data {self.sigma_data:g})"

    def factors(self, alpha: float, sigma: float) -> tuple[float, float, float]:
        """c_in, c_skip and c_out at a point of the schedule."""
        norm = math.hypot(alpha * self.sigma_data, sigma)
        return 1 / norm, alpha * (self.sigma_data / norm) ** 2, _SIGNS[self.kind] * sigma * self.sigma_data / norm


Prediction = str | Preconditioned
"""What a network predicts: one of `PREDICTIONS` by name, or a preconditioned output."""


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


def input_scale(kind: Prediction, alpha: float, sigma: float) -> float:
    """The factor of x in the network's input: c_in of a preconditioned network, else 1."""
    return kind.factors(alpha, sigma)[0] if isinstance(kind, Preconditioned) else 1.0


def to_x0(kind: Prediction, output: Tensor, x: Tensor, alpha: float, sigma: float) -> Tensor:
    """x0 from a network's output at x = alpha x0 + sigma eps, all of one shape.

    epsilon: eps; v_prediction: alpha eps - sigma x0 (Salimans & Ho 2022, arXiv 2202.00512); sample: x0;
    flow_prediction: eps - x0; for a `Preconditioned` output see there. Raises ValueError for another kind, where v is
    undefined, and for epsilon at alpha = 0.
    """
    if isinstance(kind, Preconditioned):
        _, skip, out = kind.factors(alpha, sigma)
        return skip * x + out * output
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


def from_x0(kind: Prediction, x0: Tensor, x: Tensor, alpha: float, sigma: float) -> Tensor:
    """The output of kind `kind` that `to_x0` turns into x0. Raises ValueError where sigma = 0, except for `sample`."""
    if isinstance(kind, Preconditioned):
        if sigma == 0:
            raise ValueError(f"{kind} is undefined where sigma = 0")
        _, skip, out = kind.factors(alpha, sigma)
        return (x0 - skip * x) / out
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
