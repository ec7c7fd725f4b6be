"""Guidance that does not lengthen predictions, as Qwen-Image was published with it."""

import torch
from torch import Tensor
from torch.nn import functional as F


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
