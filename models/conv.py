"""Convolutions that can keep their weights as the processor wants them, from evaluation to evaluation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import torch
from torch import Tensor, nn

_LIMIT = 64 * 2**20


class _Layout:
    """The weight of one convolution, laid out once it is needed."""

    weight: Tensor | None = None


_KEPT: Final[ContextVar[Mapping[nn.Module, _Layout]]] = ContextVar("kept", default={})  # noqa: B039 - never changed
"""The layouts kept by the `kept_layouts` around this call. Each thread has its own, so that a call computes the same
whatever others do meanwhile: a layout depends on the shape that a convolution met first."""


class Conv2d(nn.Conv2d):
    """torch's own, but for the layouts of `kept_layouts`."""

    def forward(self, x: Tensor) -> Tensor:
        layout = None if torch.compiler.is_compiling() else _KEPT.get().get(self)
        if layout is None or x.dtype != torch.float32:
            return super().forward(x)
        how = (self.padding, self.stride, self.dilation, self.groups)
        if layout.weight is None:
            layout.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *how, x.shape)
        return torch.ops.mkldnn._convolution_pointwise(x, layout.weight, self.bias, *how, "none", [], "")


def lay_out_channels_last(network: nn.Module) -> None:
    """Lay the weights of convolutions out as NVIDIA's tensor cores read them, channels last. Feature maps follow them
    from the first convolution on, so that none is laid out anew on the way."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextmanager
def kept_layouts(network: object) -> Iterator[None]:
    """While this lasts, convolutions of a module on a CPU in float32 keep their weights laid out for oneDNN.

    It lays them out anew at every call otherwise, which on small feature maps takes as long as the convolution. Their
    weights must not change meanwhile. That costs the memory of these weights again, so networks with more than 64 MiB
    of them are left alone: theirs are the larger maps, where little would be gained.
    """
    parts = network.modules() if isinstance(network, nn.Module) and _can_keep() else ()
    convolutions = [part for part in parts if isinstance(part, Conv2d) and _suits(part)]
    if sum(convolution.weight.nbytes for convolution in convolutions) > _LIMIT:
        convolutions = []
    around = _KEPT.set({**_KEPT.get(), **{convolution: _Layout() for convolution in convolutions}})
    try:
        yield
    finally:
        _KEPT.reset(around)


def _suits(convolution: Conv2d) -> bool:
    weight = convolution.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.requires_grad


def _can_keep() -> bool:
    operators = ("_reorder_convolution_weight", "_convolution_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in operators)
