"""Runs the stack of blocks of a transformer as one site, with a site for each block inside it.

The first block's call runs all of them, and the calls of the others return their input. That is right if the network
passes the output of each block to the next, with the same further arguments, and uses it for nothing else;
`StackRecord` checks the former, and the trial of `SeamedNetwork` all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..seam import Seam, Site
from .arguments import Arguments
from .attention import Reached, SeamedAttention, first_tensor
from .stack import Layout, Size, Stack, refuse


@dataclass
class StackEvaluation:
    """An evaluation through a seam.

    Attributes:
        stack: The blocks.
        layout: Their further arguments.
        seam: The seam.
        spatial: Sides of x.
    """

    stack: Stack
    layout: Layout
    seam: Seam
    spatial: Sequence[int]
    _output: Tensor | None = None
    _site: Site | None = None
    _tokens: int = 0
    _probing: bool = False

    def enter(self, name: str, inner: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Runs all blocks at the call of the first, and none at the calls of the others."""
        if name not in self.stack.blocks:
            return self._attention(inner, args, keywords)
        hidden, further = self.stack.read(name, args, keywords)
        if name == self.stack.first:
            self._output = self._run(hidden, further)
        elif hidden is not self._output:
            refuse(f"what {name} reads is not what the block before it returned")
        return self._output

    def _run(self, hidden: Tensor, further: Arguments) -> Tensor:
        """The output of the stack for hidden (B, prefix + h*w, C)."""
        prefix = self.stack.seams.prefix
        size = self.stack.size(hidden.shape[1], self.spatial)
        given = further.taken(self.layout.batched)
        rows = [tensor.shape[0] for tensor in given]
        if any(count != hidden.shape[0] for count in rows):
            raise ValueError(f"the blocks read {hidden.shape[0]} samples, and arguments of {rows}")
        before, per_token = ([hidden[:, :prefix]], ()) if prefix else ([], self.layout.per_token)
        probe = partial(self._probe, further) if self.stack.seams.attention else None
        site = Site(
            "trunk", "trunk", 0, size, per_token=per_token, per_prefix=(0,) if prefix else (), probe=probe,
            tokens=self.layout.tokens,
        )  # fmt: skip
        image = self.seam(site, partial(self._trunk, further, size), hidden[:, prefix:], *before, *given)
        return torch.cat((hidden[:, :prefix], image), dim=1) if prefix else image

    def _trunk(self, further: Arguments, size: Size, image: Tensor, *args: Tensor | None) -> Tensor:
        """Runs all blocks; `args` are the tokens of the prefix, if there are any, and the batched arguments."""
        prefix = self.stack.seams.prefix
        joint, given = self._joined(image, args)
        for name, block in self.stack.blocks.items():
            site = Site("block", name, 0, size, prefix, self.layout.per_token, tokens=self.layout.tokens)
            joint = self.seam(site, partial(self._block, block, further, site), joint, *given)
        return joint[:, prefix:]

    def _joined(self, image: Tensor, args: Sequence[Tensor | None]) -> tuple[Tensor, Sequence[Tensor | None]]:
        """All tokens, and the batched arguments."""
        if not self.stack.seams.prefix:
            return image, args
        assert args[0] is not None
        return torch.cat((args[0], image), dim=1), args[1:]

    def _block(self, block: nn.Module, further: Arguments, site: Site, joint: Tensor, *given: Tensor | None) -> Tensor:
        args, keywords = further.given(self.layout.batched, given)
        outer, self._site = self._site, site
        self._tokens = joint.shape[1]
        output: Tensor = block(joint, *args, **keywords)
        self._site = outer
        return output

    def _attention(self, inner: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """The call of the attention inside a block."""
        if self._probing:
            raise Reached(first_tensor(args, keywords))
        if self._site is None:
            return inner(*args, **keywords)
        name = self.stack.seams.attention or ""
        with SeamedAttention(self.seam, self._site.attention(name), self._tokens):
            return inner(*args, **keywords)

    def _probe(self, further: Arguments, image: Tensor, *args: Tensor | None) -> Tensor:
        """The image tokens that the first block's attention reads."""
        joint, given = self._joined(image, args)
        rest, keywords = further.given(self.layout.batched, given)
        self._probing = True
        try:
            self.stack.blocks[self.stack.first](joint, *rest, **keywords)
        except Reached as reached:
            found: Tensor = reached.value
            return found[:, self.stack.seams.prefix :]
        finally:
            self._probing = False
        raise ValueError(f"the block {self.stack.first} does not call its {self.stack.seams.attention!r}")
