"""Compiles networks: the regions between sites where a seam may act, or whole evaluations without a seam."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from .seam import Seam, call_through


@runtime_checkable
class Regional(Protocol):
    """Module whose methods named in `regions` take and return only tensors and numbers, and can be compiled."""

    regions: ClassVar[tuple[str, ...]]


def compile_regions(network: nn.Module, **options: Any) -> None:
    """Compiles the regions of all modules in `network`.

    Every site is kept, so seams work as before. Identical modules share compiled code. A second call replaces the
    effect of the first, and that of `compile_whole`.

    Args:
        network: the network.
        **options: arguments of `torch.compile`.
    """
    network.__dict__.pop("evaluate", None)
    for module in network.modules():
        if isinstance(module, Regional):
            for name in module.regions:
                region = getattr(type(module), name).__get__(module)
                object.__setattr__(module, name, torch.compile(region, **options))


def compile_whole(network: Any, freeze: bool = False, **options: Any) -> None:
    """Compiles `network.evaluate` as a whole for evaluations without a seam; those with a seam run uncompiled.

    Outputs stay valid after the next evaluation, also with CUDA graphs (`mode="reduce-overhead"`,
    `backend="cudagraphs"`), which overwrite their output buffer.

    Args:
        network: the network.
        freeze: treat the weights as constants: they are laid out once and never read again, even if the same network is
            compiled again.
        **options: arguments of `torch.compile`.
    """
    from torch._inductor import config as inductor  # imported here because importing it is slow

    plain = type(network).evaluate.__get__(network)

    def whole(x: Tensor, time: Tensor, given: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Tensor:
        return plain(x, time, given, **settings)

    compiled = torch.compile(whole, **options)

    def evaluate(
        x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam = call_through, **settings: Any
    ) -> Tensor:
        if seam is not call_through:
            return plain(x, time, given, seam, **settings)
        torch.compiler.cudagraph_mark_step_begin()
        with inductor.patch(freezing=freeze):  # compilation happens at the first call, inside this context
            return compiled(x, time, given, settings).clone()

    object.__setattr__(network, "evaluate", evaluate)
