"""The arguments of a submodule's call: which of its tensors have a row for each sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Arguments:
    """The positional and keyword arguments of a call, or its output, as a flat list of leaves."""

    leaves: tuple[Any, ...]
    spec: TreeSpec

    @classmethod
    def of(cls, tree: Any) -> "Arguments":
        """Flattens nested tuples, lists and dicts."""
        leaves, spec = tree_flatten(tree)
        return cls(tuple(leaves), spec)

    @property
    def shapes(self) -> tuple[Shape | None, ...]:
        """The shape of each leaf that is a tensor."""
        return tuple(tuple(leaf.shape) if isinstance(leaf, Tensor) else None for leaf in self.leaves)

    def emptied(self) -> "Arguments":
        """The same with tensors that have a shape and no memory."""
        empty = (leaf.to("meta") if isinstance(leaf, Tensor) else leaf for leaf in self.leaves)
        return Arguments(tuple(empty), self.spec)

    def taken(self, indices: Sequence[int]) -> list[Tensor]:
        """The leaves at `indices`."""
        return [self.leaves[index] for index in indices]

    def given(self, indices: Sequence[int], tensors: Sequence[Tensor | None]) -> Any:
        """The arguments as they were, with other leaves at `indices`."""
        leaves = list(self.leaves)
        for index, tensor in zip(indices, tensors, strict=True):
            leaves[index] = tensor
        return tree_unflatten(leaves, self.spec)

    def same(self, other: "Arguments") -> bool:
        """Whether all leaves are the same objects, or equal where they are not tensors."""
        if self.spec != other.spec:
            return False
        return all(
            mine is its or (not isinstance(mine, Tensor) and not isinstance(its, Tensor) and bool(mine == its))
            for mine, its in zip(self.leaves, other.leaves, strict=True)
        )


def batched(first: Sequence[Shape | None], second: Sequence[Shape | None]) -> tuple[int, ...]:
    """Indices of the leaves that have a row for each sample.

    Args:
        first: shapes of the leaves in an evaluation of one sample.
        second: shapes in one of two samples.
    """
    return tuple(
        index
        for index, (one, two) in enumerate(zip(first, second, strict=True))
        if one and two and (one[0], two[0]) == (1, 2)
    )
