"""Feed-forward networks of transformer blocks."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .style import Style

_GELU_SLOPE = math.sqrt(8 / math.pi)


def gelu(hidden: Tensor) -> Tensor:
    """Computes GELU in its tanh form; on a CPU by an equivalent sigmoid that takes half the time."""
    if hidden.device.type != "cpu" or hidden.dtype != torch.float32 or hidden.requires_grad:
        return F.gelu(hidden, approximate="tanh")
    inner = hidden.square().mul_(0.044715 * _GELU_SLOPE).add_(_GELU_SLOPE).mul_(hidden)
    return inner.sigmoid_().mul_(hidden)


def silu_gated(hidden: Tensor) -> Tensor:
    """Computes SiLU of the first half of (..., 2 n) times the second half, (..., n)."""
    gate, value = hidden.chunk(2, dim=-1)
    return F.silu(gate).mul_(value)


class _GELU(nn.Module):
    """Linear layer followed by GELU."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, inner)

    def forward(self, hidden: Tensor) -> Tensor:
        return gelu(self.proj(hidden))


class FeedForward(nn.Module):
    """GELU feed-forward network.

    Args:
        dim: width of the tokens.
        inner: inner width; None is four times `dim`.
    """

    def __init__(self, dim: int, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or 4 * dim
        self.net = nn.ModuleList([_GELU(dim, inner), nn.Identity(), nn.Linear(inner, dim)])

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (..., dim) to (..., dim)."""
        return self.net[2](self.net[0](hidden))


class GatedFeedForward(nn.Module):
    """SiLU-gated feed-forward network (Shazeer 2020, arXiv 2002.05202) with the gate and the value in one matrix.

    Args:
        dim: width of the tokens.
        inner: inner width.
        bias: whether the linear layers have a bias.
    """

    def __init__(self, dim: int, inner: int, bias: bool) -> None:
        super().__init__()
        self.linear_in = nn.Linear(dim, 2 * inner, bias=bias)
        self.linear_out = nn.Linear(inner, dim, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (..., dim) to (..., dim)."""
        return self.linear_out(silu_gated(self.linear_in(hidden)))


def feed_forward(dim: int, style: Style) -> FeedForward | GatedFeedForward:
    """Builds the feed-forward network of a style for tokens of width `dim`."""
    return FeedForward(dim) if style.gated is None else GatedFeedForward(dim, int(dim * style.gated), style.bias)
