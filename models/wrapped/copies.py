"""Copies of a module tree that share all parameters, with some submodules replaced."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn


def shallow(module: nn.Module) -> nn.Module:
    """A copy of a module that shares its parameters and buffers, with an own table of children."""
    made = copy.copy(module)
    made.__dict__["_modules"] = dict(module._modules)
    return made


def replaced(module: nn.Module, others: Mapping[str, nn.Module]) -> nn.Module:
    """A copy of a module tree in which some submodules are others; the module itself is left as it is.

    Args:
        module: The module.
        others: What stands in place of each submodule, by its dotted name.

    Returns:
        A copy of the modules on the way to the replaced ones. All others, and all parameters and buffers, are shared.
    """
    made = shallow(module)
    below: dict[str, dict[str, nn.Module]] = {}
    for name, other in others.items():
        child, _, rest = name.partition(".")
        if rest:
            below.setdefault(child, {})[rest] = other
        else:
            made._modules[child] = other
    for child, deeper in below.items():
        old = made._modules[child]
        assert old is not None
        made._modules[child] = replaced(old, deeper)
    return made


class Standing(nn.Module):
    """Stands in place of a submodule: calls go to `enter`, attributes that it lacks to the submodule.

    Args:
        inner: The submodule.
        enter: Called as `enter(inner, *args, **keywords)`.
    """

    def __init__(self, inner: nn.Module, enter: Callable[..., Any]) -> None:
        super().__init__()
        self.inner = inner
        self.train(inner.training)
        self._enter = enter

    def forward(self, *args: Any, **keywords: Any) -> Any:
        """Calls `enter`."""
        return self._enter(self.inner, *args, **keywords)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)
