"""The parameters that an adapter changes, and how those that a file fuses are joined and split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor

Split = Callable[[Tensor], dict[str, Tensor]]
Join = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Target:
    """The parameters that one change of an adapter is made to.

    Attributes:
        component: Name of the network: unet, transformer, text_encoder or text_encoder_2.
        weights: Names of the parameters in it; several if the file fuses them.
        split: From the fused tensor to the part of each parameter, by its name.
        fuse: From the parameters to a mapping that holds the fused tensor alone.
    """

    component: str
    weights: tuple[str, ...]
    split: Split
    fuse: Join

    def join(self, state: Mapping[str, Tensor]) -> Tensor:
        """The fused tensor of the parameters in `state`."""
        (joined,) = self.fuse({name: state[name] for name in self.weights}).values()
        return joined


@dataclass(frozen=True)
class Layer:
    """A layer of a network.

    Attributes:
        component: Name of the network.
        weight: Its weight.
        bias: Its bias; None if it has none.
    """

    component: str
    weight: Target
    bias: Target | None

    def of(self, component: str) -> Self:
        """A copy that belongs to the network `component`."""
        weight, bias = (part and replace(part, component=component) for part in (self.weight, self.bias))
        assert weight is not None
        return replace(self, component=component, weight=weight, bias=bias)


def whole(component: str, name: str) -> Target:
    """The target that is the parameter `name` alone."""
    return Target(component, (name,), partial(_alone, name), _itself)


def fused(component: str, names: Sequence[str]) -> Target:
    """The target of several parameters of equal shape, which the file stacks along the rows."""
    return Target(component, tuple(names), partial(_chunks, tuple(names)), _stacked)


def _alone(name: str, tensor: Tensor) -> dict[str, Tensor]:
    return {name: tensor}


def _itself(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return state


def _chunks(names: tuple[str, ...], tensor: Tensor) -> dict[str, Tensor]:
    return dict(zip(names, tensor.chunk(len(names)), strict=True))


def _stacked(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {"": torch.cat(list(state.values()))}
