"""Finds out whether the blocks of a transformer may be called on some of the tokens."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..seam import Site


class TokenTrial:
    """A seam that calls through, and finds out whether the stack may be called on some of the tokens.

    It calls the stack on the tokens in another order, with the arguments in `per_token` in the same order: the output
    must be that of the tokens' own order, reordered. Convolutions and windows between tokens do not pass.

    Args:
        matches: Whether two outputs are equal up to rounding.

    Attributes:
        tokens: Whether the stack passes.
    """

    def __init__(self, matches: Callable[[Tensor, Tensor], bool]) -> None:
        self._matches = matches
        self.tokens = False

    def __call__(self, site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
        output = fn(hidden, *args)
        if site.kind == "trunk":
            order = torch.arange(hidden.shape[1] - 1, -1, -1, device=hidden.device)
            moved = [
                arg.index_select(1, order) if arg is not None and index in site.per_token else arg
                for index, arg in enumerate(args)
            ]
            turned = fn(hidden.index_select(1, order), *moved)
            self.tokens = self._matches(turned.index_select(1, order), output)
        return output
