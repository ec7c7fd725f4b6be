"""Names of a network's tensors in the layout of its authors, and the conversion to the Hub's layout and back."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

_BLOCK = re.compile(r"(.+?)\.(\d+)(?=\.|$)")


class Misshaped(ValueError):
    """A shape that cannot be converted."""


@dataclass(frozen=True)
class Fused:
    """Modules of the Hub's layout that the authors' layout fuses along the rows.

    Attributes:
        names: the Hub's names, in the order of the rows.
        shares: ratios of their rows; equal shares if empty.
    """

    names: tuple[str, ...]
    shares: tuple[int, ...] = ()

    def at(self, index: str) -> "Fused":
        """Returns the modules of one block: `index` in place of "{}"."""
        return Fused(tuple(name.replace("{}", index) for name in self.names), self.shares)

    def split(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """Splits a fused weight or bias into views, one for each name; see `split_fused`."""
        return split_fused(tensor, self.shares or (1,) * len(self.names))


@dataclass(frozen=True)
class OriginalLayout:
    """Names of modules in the authors' layout. Names that it does not have are the same in both layouts.

    Attributes:
        modules: the authors' name of a module -> the Hub's; "{}" stands for the index of a block in both.
        swapped: authors' names, with their index, of modules whose halves are exchanged: the authors' shift precedes
            the scale, the Hub's follows it.
        tensors: the authors' name of a tensor -> the Hub's; None for a tensor that the network does not read.
    """

    modules: Mapping[str, str | Fused]
    swapped: frozenset[str] = frozenset()
    tensors: Mapping[str, str | None] = field(default_factory=dict)

    def hub(self, module: str) -> Fused | None:
        """Returns the Hub's names of the module that the authors call `module`; None if they are the same."""
        found, index = self.modules.get(module), ""
        if found is None and (block := _BLOCK.match(module)) is not None:
            index = block[2]
            found = self.modules.get(f"{block[1]}.{{}}{module[block.end() :]}")
        if found is None:
            return None
        return (Fused((found,)) if isinstance(found, str) else found).at(index)

    def convert(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """Converts a tensor of the authors' layout to the Hub's; a tensor of the Hub's is returned as it is.

        Args:
            name: its name.
            tensor: the tensor.

        Returns:
            Tensors by the Hub's names; none for a tensor that the network does not read.

        Raises:
            Misshaped: if the rows of a fused tensor do not divide as they must.
        """
        if name in self.tensors:
            hub = self.tensors[name]
            return {} if hub is None else {hub: tensor}
        module, _, leaf = name.rpartition(".")
        parts = self.hub(module)
        if parts is None:
            return {name: tensor}
        whole = swap_halves(tensor) if module in self.swapped else tensor
        return dict(zip(_tensors(parts, leaf), parts.split(whole), strict=True))

    def join(self, name: str, state: Mapping[str, Tensor]) -> Tensor:
        """Returns the tensor that the authors call `name`, from those of the Hub's layout: the inverse of `convert`."""
        names = self.names(name)
        whole = state[names[0]] if len(names) == 1 else torch.cat([state[part] for part in names])
        return swap_halves(whole) if name.rpartition(".")[0] in self.swapped else whole

    def names(self, name: str) -> tuple[str, ...]:
        """Returns the Hub's names of the tensors that the authors' tensor `name` holds."""
        module, _, leaf = name.rpartition(".")
        parts = self.hub(module)
        return (name,) if parts is None else _tensors(parts, leaf)

    def own_modules(self, parameters: Collection[str]) -> Iterator[str]:
        """Yields the authors' names of a network's modules that have other names in the Hub's layout.

        Args:
            parameters: the Hub's names of the network's parameters.
        """
        known = set(parameters)
        indices = sorted({block[2] for name in known if (block := _BLOCK.match(name))}, key=int)
        for module in self.modules:
            for index in indices if "{}" in module else ("",):
                own = module.replace("{}", index)
                if known.issuperset(self.names(f"{own}.weight")):
                    yield own


def in_blocks(authors: str, hub: str, table: Mapping[str, str | Fused]) -> dict[str, str | Fused]:
    """Returns the names of modules in numbered blocks.

    Args:
        authors: the authors' name of the stack of blocks.
        hub: the Hub's.
        table: names within a block, the authors' -> the Hub's.
    """

    def full(name: str | Fused) -> str | Fused:
        if isinstance(name, str):
            return f"{hub}.{{}}.{name}"
        return Fused(tuple(f"{hub}.{{}}.{part}" for part in name.names), name.shares)

    return {f"{authors}.{{}}.{old}": full(new) for old, new in table.items()}


def _tensors(parts: Fused, leaf: str) -> tuple[str, ...]:
    leaf = "weight" if leaf == "scale" else leaf  # of the authors' RMS norms
    return tuple(f"{name}.{leaf}" for name in parts.names)


def split_fused(fused: Tensor, shares: Sequence[int]) -> tuple[Tensor, ...]:
    """Splits a weight or bias into the projections that are fused along its rows.

    Args:
        fused: (rows, ...).
        shares: ratios of the projections' rows.

    Returns:
        Views of `fused`.

    Raises:
        Misshaped: if the rows do not divide so.
    """
    rows = len(fused) if fused.dim() else 1
    unit, rest = divmod(rows, sum(shares))
    if rest:
        raise Misshaped(f"{rows} rows do not split as {':'.join(map(str, shares))}")
    return fused.split([unit * share for share in shares]) if len(shares) > 1 else (fused,)


def swap_halves(tensor: Tensor) -> Tensor:
    """Exchanges the halves of a modulation along its rows: shift and scale."""
    return tensor.roll(len(tensor) // 2, dims=0) if tensor.dim() else tensor
