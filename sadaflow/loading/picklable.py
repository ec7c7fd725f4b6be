"""Makes text encoders picklable: `transformers` hooks local functions into them at the first call."""

import copy
from collections import OrderedDict
from typing import Any

from torch import nn

_INSTALLED = "_output_capturing_hooks_installed"  # set by transformers; without it the hooks are installed again


def without_captures(network: nn.Module) -> nn.Module:
    """A copy of `network` that shares its parameters and buffers and has none of `transformers`' output hooks."""
    return _copied(network, {})


def _copied(module: nn.Module, done: dict[nn.Module, nn.Module]) -> nn.Module:
    if module not in done:
        done[module] = twin = copy.copy(module)
        own: dict[str, Any] = vars(twin)
        own["_modules"] = {name: child and _copied(child, done) for name, child in module._modules.items()}
        hooks = module._forward_hooks.items()
        own["_forward_hooks"] = OrderedDict((key, hook) for key, hook in hooks if not _captures(hook))
        if own.get(_INSTALLED):
            own[_INSTALLED] = False
    return done[module]


def _captures(hook: Any) -> bool:
    return getattr(hook, "__module__", "") == "transformers.utils.output_capturing"
