"""RMS norm (Zhang & Sennrich 2019, arXiv 1910.07467)."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """RMS norm over the last dimension, computed in float32 at least.

    Args:
        dim: size of the last dimension.
        eps: added to the mean square.
    """

    eps: float

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__(dim, eps=eps)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (..., dim) to (..., dim)."""
        if hidden.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(hidden)
        # On a CPU torch's own RMS norm makes many passes over memory; this makes three.
        exact = torch.promote_types(hidden.dtype, torch.float32)
        norm = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=exact)
        scale = torch.rsqrt(norm.square() / hidden.shape[-1] + self.eps)
        return (hidden * scale).to(hidden.dtype) * self.weight
