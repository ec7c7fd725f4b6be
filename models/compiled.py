"""Compiling a network: the parts that compute between the places where a seam may act, and evaluations without one."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from .seam import Seam, call_through


@runtime_checkable
class Regional(Protocol):
    """A module whose methods called `regions` take and give tensors and numbers alone, and can be compiled."""

    regions: ClassVar[tuple[str, ...]]


def compile_regions(network: nn.Module, **options: Any) -> None:
    """Compile the regions of all modules in `network`; `options` are those of `torch.compile`.

    Every site stays where it was, so a seam works as before. Modules that are alike share what was compiled. Doing it
    again replaces what it did, and what `compile_whole` did.
    """
    network.__dict__.pop("evaluate", None)
    for module in network.modules():
        if isinstance(module, Regional):
            for name in module.regions:
                region = getattr(type(module), name).__get__(module)
                object.__setattr__(module, name, torch.compile(region, **options))


def compile_whole(network: Any, freeze: bool = False, **options: Any) -> None:
    """Compile `network.evaluate` in one piece, for evaluations without a seam; those with one run as they did.

    Answers outlive the next evaluation, also where CUDA graphs (`mode="reduce-overhead"`, `backend="cudagraphs"`) write
    each over the last. With `freeze` the weights are constants of what is compiled: laid out once, and not read again,
    not even where the same network is compiled once more.
    """
    from torch._inductor import config as inductor  # takes as long to import as torch itself

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
        with inductor.patch(freezing=freeze):  # compiling happens at a call, and asks then
            return compiled(x, time, given, settings).clone()

    object.__setattr__(network, "evaluate", evaluate)
