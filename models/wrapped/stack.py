"""The blocks of a transformer, and a record of how a network calls them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from torch import Tensor, nn

from .arguments import Arguments, Shape
from .attention import first_tensor
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
            refuse(f"what {name} reads is not what {self._called[-1]} returned")
        elif not further.same(self._further):
            refuse(f"{name} is called with other arguments than {self._called[0]}")
        self._called.append(name)
        output = inner(*args, **keywords)
        if not isinstance(output, Tensor) or output.shape != hidden.shape:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            refuse(f"{name} returns {found} for {tuple(hidden.shape)}")
        self._hidden = output
        return output

    def finish(self) -> tuple[Shape | None, ...]:
        """The shapes of the further arguments. Raises ValueError if not all blocks were called."""
        missing = [name for name in self.stack.blocks if name not in self._called]
        if missing or self._further is None:
            raise ValueError(f"the network never calls the block {missing[0]} (Seams.blocks)")
        return self._further.shapes


def refuse(reason: str) -> NoReturn:
    """Raises ValueError: the blocks are not called as a stack."""
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
