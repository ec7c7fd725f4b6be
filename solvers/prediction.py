"""Prediction types of networks, and conversions between predictions and x0."""

import math
from dataclasses import dataclass
from typing import Final

from torch import Tensor

PREDICTIONS: Final = ("epsilon", "v_prediction", "sample", "flow_prediction")
_ALIASES: Final = {"eps": "epsilon", "v": "v_prediction", "x0": "sample", "flow": "flow_prediction"}
EPSILON_LIMIT: Final = 1e-12
"""alpha / sigma below which x0 cannot be computed from epsilon: even in float64 it would have four digits."""
_SIGNS: Final = {"epsilon": 1.0, "v_prediction": -1.0}


@dataclass(frozen=True)
class Preconditioned:
    """Output F of a network preconditioned as in EDM: x0 = c_skip x + c_out F, with network input c_in x.

    With n^2 = alpha^2 sigma_data^2 + sigma^2:

        c_in = 1 / n,    c_skip = alpha sigma_data^2 / n^2,    c_out = sigma sigma_data / n.

    At alpha = 1 these are the factors of Karras et al. 2022 (arXiv 2206.00364), Table 1. For sigma_data = 1 on a
    variance-preserving schedule c_in is 1 and -F is the v of Salimans & Ho.

    Attributes:
        sigma_data: standard deviation of the training data.
        kind: "epsilon", or "v_prediction" for the opposite sign of c_out, as Diffusers' EDM schedulers name them.

    Raises:
        ValueError: if `sigma_data` is not positive and finite, or `kind` is unknown.
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
        """Returns (c_in, c_skip, c_out) at a point of the schedule."""
        norm = math.hypot(alpha * self.sigma_data, sigma)
        return 1 / norm, alpha * (self.sigma_data / norm) ** 2, _SIGNS[self.kind] * sigma * self.sigma_data / norm


Prediction = str | Preconditioned
"""Prediction type of a network: one of `PREDICTIONS` by name, or a preconditioned output."""


def _canonical(kind: str, alpha: float, sigma: float) -> str:
    """Returns the full name of a prediction type; raises ValueError if it is unknown or undefined at (alpha, sigma)."""
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
    """Returns the factor of x in the network's input: c_in of a preconditioned network, otherwise 1.

    Args:
        kind: What the network predicts.
        alpha: Coefficient of x0.
        sigma: Coefficient of the noise.
    """
    return kind.factors(alpha, sigma)[0] if isinstance(kind, Preconditioned) else 1.0


def to_x0(kind: Prediction, output: Tensor, x: Tensor, alpha: float, sigma: float) -> Tensor:
    """Computes x0 from a network's output at x = alpha x0 + sigma eps.

        epsilon:          eps                    x0 = (x - sigma output) / alpha
        v_prediction:     alpha eps - sigma x0   x0 = alpha x - sigma output
        sample:           x0                     x0 = output
        flow_prediction:  eps - x0               x0 = (x - sigma output) / (alpha + sigma)

    v_prediction: Salimans & Ho 2022, arXiv 2202.00512.

    Args:
        kind: prediction type, a name or a `Preconditioned`.
        output: (B, ...), the network's output.
        x: (B, ...), state at which it was evaluated.
        alpha: signal coefficient there.
        sigma: noise coefficient there.

    Returns:
        x0 (B, ...).

    Raises:
        ValueError: if the prediction type is unknown, if v is undefined on the schedule, or for epsilon near alpha = 0.
    """
    if isinstance(kind, Preconditioned):
        _, skip, out = kind.factors(alpha, sigma)
        return skip * x + out * output
    name = _canonical(kind, alpha, sigma)
    if name == "sample":
        return output
    if name == "epsilon":
        if alpha <= EPSILON_LIMIT * sigma:
            raise ValueError(
                f"epsilon does not determine x0 at alpha = {alpha:.3g}; use v_prediction, flow_prediction or sample"
            )
        return (x - sigma * output) / alpha
    if name == "v_prediction":
        return alpha * x - sigma * output
    return (x - sigma * output) / (alpha + sigma)


def from_x0(kind: Prediction, x0: Tensor, x: Tensor, alpha: float, sigma: float) -> Tensor:
    """Computes the network output that `to_x0` converts to x0.

    Args:
        kind: prediction type, a name or a `Preconditioned`.
        x0: (B, ...), clean-sample estimate.
        x: (B, ...), state it belongs to.
        alpha: signal coefficient there.
        sigma: noise coefficient there.

    Returns:
        The output (B, ...).

    Raises:
        ValueError: if sigma = 0, except for "sample"; and as `to_x0`.
    """
    if isinstance(kind, Preconditioned):
        if sigma == 0:
            raise ValueError(f"{kind} is undefined where sigma = 0")
        _, skip, out = kind.factors(alpha, sigma)
        return (x0 - skip * x) / out
    name = _canonical(kind, alpha, sigma)
    if name == "sample":
        return x0
    if sigma == 0:
        raise ValueError(f"{kind} is undefined where sigma = 0")
    if name == "epsilon":
        return (x - alpha * x0) / sigma
    if name == "v_prediction":
        return (alpha * x - x0) / sigma
    return (x - (alpha + sigma) * x0) / sigma
