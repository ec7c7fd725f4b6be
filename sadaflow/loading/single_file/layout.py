"""A safetensors file that holds several components, each under a prefix of its own, and how one of them is read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..safetensors_file import Stored, open_safetensors, read_headers
from ..strict import Convert, Loader, Misshaped, UnknownTensor
from ..weight_files import build_empty, check_names

Config = TypeVar("Config")
Module = TypeVar("Module", bound=nn.Module)
@dataclass(frozen=True)
class Section:
    """Tensors of a file under one prefix. `shapes` has their names, without the prefix."""

    path: Path
    prefix: str
    stored: tuple[Stored, ...]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {one.name[len(self.prefix) :]: one.shape for one in self.stored}

    @property
    def place(self) -> str:
        return f"{self.path} ({self.prefix}*)" if self.prefix else str(self.path)

    def shape(self, name: str, what: str, dims: int) -> tuple[int, ...]:
        """Shape of a tensor that every `what` has, of so many dimensions; ValueError where it is not so."""
        if name not in self.shapes:
            raise ValueError(f"{self.place}: no {what} in the original layout: {self.prefix + name!r} is missing")
        shape = self.shapes[name]
        if len(shape) != dims or 0 in shape:
            raise ValueError(f"{self.place}: {name} is {shape}, but that of a {what} has {dims} dimensions, none empty")
        return shape

    def config(self, read: Callable[[dict[str, Any]], Config], told: dict[str, Any]) -> Config:
        """What `read` makes of the config that the shapes have told; its ValueError names the file."""
        try:
            return read(told)
        except ValueError as error:
            raise ValueError(f"{self.place}: the tensors' shapes tell a network that cannot be: {error}") from error

    def build(self, build: Callable[[], Module]) -> Module:
        """A module for this section on the meta device (see `build_empty`)."""
        return build_empty(build, self.stored, self.place)

    def full(self, convert: Convert) -> Convert:
        """`convert`, for names that carry the prefix."""

        def convert_full(name: str, tensor: Tensor) -> Mapping[str, Tensor]:
            return convert(name[len(self.prefix) :], tensor)

        return convert_full

    def count(self, group: str) -> int:
        """How many numbers follow `group` ("double_blocks") in the names."""
        dots = group.count(".") + 1
        return len({name.split(".")[dots] for name in self.shapes if name.startswith(f"{group}.")})


class SingleFile:
    """What a safetensors file holds. `shapes` has all its tensors; `metadata` is what its writer noted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_safetensors(path) as file:
            self.metadata: dict[str, str] = file.metadata() or {}
        self._stored = tuple(read_headers([path]))
        self.shapes = {one.name: one.shape for one in self._stored}

    def has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.shapes)

    def section(self, prefix: str) -> Section:
        return Section(self.path, prefix, tuple(one for one in self._stored if one.name.startswith(prefix)))

    def check_read(self, prefixes: Iterable[str]) -> None:
        """Raise ValueError for tensors under none of the `prefixes`."""
        known = tuple(prefixes)
        check_names(str(self.path), set(), {name for name in self.shapes if not name.startswith(known)})


def split_fused(fused: Tensor, shares: Sequence[int]) -> tuple[Tensor, ...]:
    """The projections fused along the rows of a weight or bias, whose heights are as `shares`; they share memory."""
    rows = len(fused) if fused.dim() else 1
    unit, rest = divmod(rows, sum(shares))
    if rest:
        raise Misshaped(f"{rows} rows do not split as {':'.join(map(str, shares))}")
    return fused.split([unit * share for share in shares])


def join_fused(parts: Sequence[Tensor]) -> Tensor:
    """The inverse of `split_fused`."""
    return torch.cat(tuple(parts))


def by_name(names: dict[str, str]) -> Convert:
    """The conversion that renames by a table from the file's names to the Hub's."""

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        if name not in names:
            raise UnknownTensor(f"tensor {name!r} is none of the original layout")
        return {names[name]: tensor}

    return convert


def place(
    network: Module, section: Section, convert: Convert, loader: Loader, dtype: torch.dtype | None = None
) -> Module:
    """Match a network on the meta device with a section; the loader reads the weights later.

    Args:
        network: The network.
        section: Its tensors in the file.
        convert: From the names without the section's prefix to the network's.
        loader: Reads the weights.
        dtype: Of the weights where it differs from the loader's.

    Raises:
        ValueError: If tensors are missing, unexpected or misshaped, naming each.
    """
    return loader.add(network, section.stored, section.full(convert), section.place, dtype=dtype)
