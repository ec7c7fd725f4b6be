"""Convolutions that can cache their weights in the memory layout of the processor."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import torch
from torch import Tensor, nn

_LIMIT = 64 * 2**20


class _Layout:
    """Cached weight of one convolution, laid out on first use."""

    weight: Tensor | None = None


_KEPT: Final[ContextVar[Mapping[nn.Module, _Layout]]] = ContextVar("kept", default={})  # noqa: B039 - never changed
"""Layouts cached by the enclosing `kept_layouts`. Each thread has its own, so that results do not depend on other
threads: a layout depends on the first input shape of a convolution."""


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` that uses the layouts cached by `kept_layouts`."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, in_channels, H, W) to (B, out_channels, H', W')."""
        layout = None if torch.compiler.is_compiling() else _KEPT.get().get(self)
        if layout is None or x.dtype != torch.float32:
            return super().forward(x)
        how = (self.padding, self.stride, self.dilation, self.groups)
        if layout.weight is None:
            layout.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *how, x.shape)
        return torch.ops.mkldnn._convolution_pointwise(x, layout.weight, self.bias, *how, "none", [], "")


def lay_out_channels_last(network: nn.Module) -> None:
    """Converts the weights of convolutions to channels-last, the layout of NVIDIA's tensor cores.

    Feature maps follow the weights from the first convolution on, so none is converted inside the network.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextmanager
def kept_layouts(network: object) -> Iterator[None]:
    """Context manager in which float32 convolutions on a CPU cache their weights in oneDNN's layout.

    Otherwise oneDNN converts the weights at every call, which on small feature maps takes as long as the convolution.
    The weights must not change inside the context. The cache doubles their memory, so networks with more than 64 MiB of
    these weights are skipped; they have larger maps, where little would be gained.

    Args:
        network: the network; an object that is not a module is ignored.
    """
    parts = network.modules() if isinstance(network, nn.Module) and _can_keep() else ()
    convolutions = [part for part in parts if isinstance(part, Conv2d) and _suits(part)]
    if sum(convolution.weight.nbytes for convolution in convolutions) > _LIMIT:
        convolutions = []
    token = _KEPT.set({**_KEPT.get(), **{convolution: _Layout() for convolution in convolutions}})
    try:
        yield
    finally:
        _KEPT.reset(token)


def _suits(convolution: Conv2d) -> bool:
    """Whether a convolution is on a CPU in float32 and needs no gradient."""
    weight = convolution.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.requires_grad


def _can_keep() -> bool:
    """Whether this torch has the oneDNN operators that the cache uses."""
    operators = ("_reorder_convolution_weight", "_convolution_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in operators)
