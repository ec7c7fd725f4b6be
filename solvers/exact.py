"""Data distributions whose denoiser has a closed form, for testing solvers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .base import Solver


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Data distribution sum_k weights_k N(means_k, covariances_k) in D dimensions.

    States are (B, ...) with D numbers per sample.

    Attributes:
        weights: (K,), positive, with sum 1.
        means: (K, D).
        covariances: (K, D, D), symmetric positive definite.

    Raises:
        ValueError: if shapes do not match, weights are not positive with sum 1, or a covariance is not symmetric
            positive definite.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        components, size = self.means.shape
        if self.weights.shape != (components,) or self.covariances.shape != (components, size, size):
            raise ValueError(
                f"means of shape {tuple(self.means.shape)} need weights ({components},) and covariances "
                f"({components}, {size}, {size}), got {tuple(self.weights.shape)} and {tuple(self.covariances.shape)}"
            )
        if not bool((self.weights > 0).all()) or abs(float(self.weights.sum()) - 1) > 1e-9:
            raise ValueError(f"mixture weights must be positive and sum to 1, got {self.weights.tolist()}")
        symmetric = torch.allclose(self.covariances, self.covariances.mT, rtol=0, atol=1e-12)
        if not symmetric or not bool((self._spectrum[0] > 0).all()):
            raise ValueError("covariances must be symmetric and positive definite")

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (K, D) and eigenvectors (K, D, D) of the covariances."""
        values, vectors = torch.linalg.eigh(self.covariances.double())
        return values, vectors

    @cached_property
    def _axes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvectors side by side (D, K D), means in their own eigenbasis (K, D), and log weights (K,)."""
        vectors = self._spectrum[1]
        side_by_side = vectors.permute(1, 0, 2).flatten(1)
        along = torch.einsum("kde,kd->ke", vectors, self.means.double())
        return side_by_side, along, self.weights.double().log()

    def x0(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """Computes E[x0 | x] at x = alpha x0 + sigma eps, the output of a perfect network.

        Args:
            x: (B, ...).
            alpha: signal coefficient.
            sigma: noise coefficient.

        Returns:
            x0 with the shape, dtype and device of x.
        """
        values, means = self._spectrum[0].to(x), self.means.to(x)
        vectors, along, log_weights = (part.to(x) for part in self._axes)
        marginal = alpha * alpha * values + sigma * sigma  # (K, D): variances of x along the eigenvectors
        offset = (x.flatten(1) @ vectors).unflatten(1, values.shape) - alpha * along  # (B, K, D)
        log_density = log_weights - 0.5 * (offset**2 / marginal + marginal.log()).sum(-1)
        share = log_density.softmax(-1)
        moves = share[..., None] * (alpha * values / marginal) * offset
        mean: Tensor = share @ means + moves.flatten(1) @ vectors.mT
        return mean.view_as(x)

    def denoiser(self, solver: Solver) -> Callable[[Tensor, int], Tensor]:
        """Returns `denoise(x, step) -> x0` at the nodes of a solver."""

        def denoise(x: Tensor, step: int) -> Tensor:
            node = solver.nodes[step]
            return self.x0(x, node.alpha, node.sigma)

        return denoise


class Gaussian(GaussianMixture):
    """Data distribution N(mean, covariance), whose whole trajectory has a closed form.

    Args:
        mean: (D,).
        covariance: (D, D), symmetric positive definite.
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        super().__init__(torch.ones(1, dtype=torch.float64), mean[None], covariance[None])

    def transport(self, x: Tensor, start: tuple[float, float], end: tuple[float, float]) -> Tensor:
        """Computes the probability-flow ODE's x at `end` from x at `start`.

        Along each eigenvector of the covariance, x - alpha mean grows like its marginal standard deviation.

        Args:
            x: (B, ...), state at `start`.
            start: (alpha, sigma).
            end: (alpha, sigma).
        """
        values, vectors = (part[0].to(x) for part in self._spectrum)
        mean = self.means[0].to(x)
        (alpha, sigma), (alpha_end, sigma_end) = start, end
        growth = ((alpha_end**2 * values + sigma_end**2) / (alpha**2 * values + sigma**2)).sqrt()
        coordinates = (x.flatten(1) - alpha * mean) @ vectors
        return (alpha_end * mean + (growth * coordinates) @ vectors.T).view_as(x)
