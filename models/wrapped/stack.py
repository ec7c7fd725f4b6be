"""The stack of blocks of a transformer, run as one site with a site for each block inside it.

The first block's call runs all of them, and the calls of the others return their input. That is right if the network
passes the output of each block to the next, with the same further arguments, and uses it for nothing else;
`StackRecord` checks the former, and the trial of `SeamedNetwork` all of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ..seam import Seam, Site
from .arguments import Arguments, Shape
from .attention import Reached, SeamedAttention, first_tensor
from .settings import Seams

Size = tuple[int, int]


@dataclass(frozen=True)
class Stack:
    """The blocks of a network.

    Attributes:
        blocks: The blocks by name, in order; the attention inside them, if it is named, is a standing module.
        seams: The settings.
    """

    blocks: Mapping[str, nn.Module]
    seams: Seams

    @property
    def first(self) -> str:
        """Name of the first block."""
        return next(iter(self.blocks))

    def read(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Tensor, Arguments]:
        """Hidden and the further arguments of the call of a block.

        Raises:
            ValueError: if the first argument is not a tensor (B, tokens, C).
        """
        if not args and keywords:
            label, hidden = next(iter(keywords.items()))
            rest: Any = ((), {other: value for other, value in keywords.items() if other != label})
        else:
            hidden, rest = first_tensor(args, keywords), (args[1:], keywords)
        if not isinstance(hidden, Tensor) or hidden.dim() != 3:
            found = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
            raise ValueError(f"the first argument of the block {name} must be tokens (B, L, C), got {found}")
        return hidden, Arguments.of(rest)

    def size(self, tokens: int, spatial: Sequence[int]) -> Size:
        """Height and width of the grid of image tokens.

        Args:
            tokens: Number of tokens of hidden.
            spatial: Sides of x.

        Raises:
            ValueError: if the number of tokens does not fit.
        """
        image = tokens - self.seams.prefix
        if self.seams.grid is not None:
            height, width = self.seams.grid
            if height * width == image:
                return height, width
        elif len(spatial) == 2:
            for patch in range(1, min(spatial) + 1):
                height, width = spatial[0] // patch, spatial[1] // patch
                if spatial[0] % patch == spatial[1] % patch == 0 and height * width == image:
                    return height, width
        wanted = f"Seams.grid={self.seams.grid}" if self.seams.grid else f"square patches of x ({tuple(spatial)})"
        raise ValueError(
            f"the blocks have {tokens} tokens, of which prefix={self.seams.prefix} are not the image's, and the other "
            f"{image} do not fit {wanted}: give Seams(prefix=, grid=(height, width))"
        )


@dataclass
class StackRecord:
    """An evaluation that calls every block as it is, and checks how the network calls them.

    Attributes:
        stack: The blocks.
        tokens: Number of tokens of hidden.
    """

    stack: Stack
    tokens: int = 0
    _called: list[str] = field(default_factory=list)
    _hidden: Tensor | None = None
    _further: Arguments | None = None

    def enter(self, name: str, inner: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Calls the block; raises ValueError if it does not fit a stack."""
        if name not in self.stack.blocks:
            return inner(*args, **keywords)
        hidden, further = self.stack.read(name, args, keywords)
        expected = [*self.stack.blocks][len(self._called)] if len(self._called) < len(self.stack.blocks) else None
        if name != expected:
            raise ValueError(f"the network calls the block {name} where {expected or 'no further block'} was expected")
        if self._further is None:
            self._further, self.tokens = further, hidden.shape[1]
        elif hidden is not self._hidden:
            _refuse(f"what {name} reads is not what {self._called[-1]} returned")
        elif not further.same(self._further):
            _refuse(f"{name} is called with other arguments than {self._called[0]}")
        self._called.append(name)
        output = inner(*args, **keywords)
        if not isinstance(output, Tensor) or output.shape != hidden.shape:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            _refuse(f"{name} returns {found} for {tuple(hidden.shape)}")
        self._hidden = output
        return output

    def finish(self) -> tuple[Shape | None, ...]:
        """The shapes of the further arguments. Raises ValueError if not all blocks were called."""
        missing = [name for name in self.stack.blocks if name not in self._called]
        if missing or self._further is None:
            raise ValueError(f"the network never calls the block {missing[0]} (Seams.blocks)")
        return self._further.shapes


def _refuse(reason: str) -> NoReturn:
    raise ValueError(
        f"these blocks are not a stack of hidden = block(hidden, ...): {reason}; name fewer of them in Seams.blocks, "
        "or write the network with a seam (docs/write-a-seam.md)"
    )


@dataclass(frozen=True)
class Layout:
    """What a trial found of the further arguments of a network's blocks.

    Attributes:
        batched: Indices of the arguments that have a row for each sample.
        per_token: Those of `batched`, counted within it, that have an entry for each token.
        tokens: Whether the blocks may be called on some of the tokens.
    """

    batched: tuple[int, ...]
    per_token: tuple[int, ...] = ()
    tokens: bool = False


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
            _refuse(f"what {name} reads is not what the block before it returned")
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
