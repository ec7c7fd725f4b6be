"""Keeps parts of a network in float32 whose rounding in half precision shows."""

from collections.abc import Sequence

import torch
from torch import nn


def widen(network: nn.Module, names: Sequence[str]) -> None:
    """Converts modules and parameters with these last names to float32, unless their dtype is wider."""
    for path, parameter in list(network.named_parameters()) if names else ():
        if not set(names).isdisjoint(path.split(".")):
            owner, _, leaf = path.rpartition(".")
            wide = parameter.to(torch.promote_types(parameter.dtype, torch.float32))
            setattr(network.get_submodule(owner), leaf, nn.Parameter(wide, requires_grad=False))
