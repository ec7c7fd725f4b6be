"""Convolutions that can keep their weights as the processor wants them, from call to call."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_LIMIT = 64 * 2**20


class Conv2d(nn.Conv2d):
    """torch's own, but for one thing that `kept_layouts` asks of it."""

    keeping = False
    _kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not self.keeping or x.dtype != torch.float32:
            return super().forward(x)
        how = (self.padding, self.stride, self.dilation, self.groups)
        if self._kept is None:
            self._kept = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *how, x.shape)
        return torch.ops.mkldnn._convolution_pointwise(x, self._kept, self.bias, *how, "none", [], "")

    def let_go(self) -> None:
        self.keeping, self._kept = False, None


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
    for convolution in convolutions:
        convolution.keeping = True
    try:
        yield
    finally:
        for convolution in convolutions:
            convolution.let_go()


def _suits(convolution: Conv2d) -> bool:
    weight = convolution.weight
    plain = weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.requires_grad
    return plain and not convolution.keeping


def _can_keep() -> bool:
    operators = ("_reorder_convolution_weight", "_convolution_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in operators)
