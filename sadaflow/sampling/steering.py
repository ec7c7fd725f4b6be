"""Sampling from a posterior: x0 is corrected by the gradient of a log-likelihood, through the network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sadaflow.models import Seam, call_through
from sadaflow.solvers import Node

from .around import Around
from .denoiser import Rows

LogLikelihood = Callable[[Tensor, Node, Rows], Tensor]
"""log p(y | x) of samples from their x0 (R, ...), the point of the evaluation and their indices in the batch: (R,)."""


@dataclass(frozen=True)
class Steered(Around):
    """A denoiser of the posterior p(x0 | y), from one of the prior p(x0) and a model of p(y | x).

    By Tweedie's formula the posterior's x0 is that of the prior plus (sigma^2 / alpha) times the gradient of log
    p(y | x) with respect to the state x. With `log_likelihood` a function of the prior's x0 this gradient goes through
    the network, once per evaluation; any loss times -1 will do. Diffusion posterior sampling (Chung et al. 2023, arXiv
    2209.14687) and pseudoinverse guidance (Song et al. 2023, ICLR) differ in this function alone.

    A step that an accelerator skips costs neither: its estimate is one of the posterior's x0.

    Attributes:
        inner: The denoiser of the prior: one of this library, or any callable (x, step) -> x0 that takes any samples,
            and makes nothing of their order.
        nodes: The solver's nodes.
        log_likelihood: log p(y | x), see `LogLikelihood`.
    """

    nodes: Sequence[Node]
    log_likelihood: LogLikelihood

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(len(x)), call_through)

    def evaluate(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the samples `rows`, whose states are x (len(rows), ...).

        Raises:
            ValueError: if the log-likelihood has another shape than (len(rows),), or does not depend on x0; or at pure
                noise, where the state holds nothing that a gradient could change.
        """
        node = self.nodes[step]
        if node.pure_noise:
            raise ValueError(
                f"steering needs some signal in x, and alpha is {node.alpha:g} at evaluation {step}: begin the grid "
                "below pure noise, as at flow time 0.99"
            )
        with torch.enable_grad():
            state = x.detach().requires_grad_()
            evaluate = getattr(self.inner, "evaluate", None)
            x0 = self.inner(state, step) if evaluate is None else evaluate(state, step, rows, seam)
            value = self.log_likelihood(x0, node, rows)
            if value.shape != (len(rows),) or not value.requires_grad:
                raise ValueError(
                    f"log_likelihood returned a tensor {tuple(value.shape)} for x0 of {len(rows)} samples: it must "
                    "return one number for each, and be differentiable in x0"
                )
            (gradient,) = torch.autograd.grad(value.sum(), state)
        return x0.detach() + node.sigma**2 / node.alpha * gradient
