"""Guidance that does not lengthen predictions, as Qwen-Image was published with it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Branches, Wrapper


@dataclass(frozen=True)
class KeepLength(Wrapper):
    """Gives the guided prediction, at each token, the length of the conditional one.

    Source: the published pipeline of Qwen-Image.

    Attributes:
        side: Latent positions along one side of a token.
    """

    side: int = 2

    def guided(self, branches: Branches, memory: Any) -> Tensor:
        return with_length_of(branches.conditional, super().guided(branches, memory), self.side)


def with_length_of(conditional: Tensor, guided: Tensor, side: int) -> Tensor:
    """The guided prediction, at each token as long as the conditional one.

    Args:
        conditional: Prediction of the conditional branch, (B, C, h, w).
        guided: The guided prediction, (B, C, h, w).
        side: Latent positions along one side of a token; its length is the Euclidean one over these and all channels.

    Returns:
        (B, C, h, w).
    """
    ratio = _lengths(conditional, side) / _lengths(guided, side).clamp_min(torch.finfo(torch.float32).tiny)
    spread = ratio.repeat_interleave(side, dim=-2).repeat_interleave(side, dim=-1)
    return (guided * spread).to(guided.dtype)


def _lengths(prediction: Tensor, side: int) -> Tensor:
    """Length of a prediction (B, C, h, w) at each token, (B, 1, h/side, w/side) in float32."""
    squares = prediction.float().square().sum(dim=1, keepdim=True)
    return F.avg_pool2d(squares, side, divisor_override=1).sqrt()
