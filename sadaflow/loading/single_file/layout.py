"""Safetensors files that hold several components, each under a prefix of its own."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..layouts.leftovers import is_leftover
from ..safetensors_file import Stored, open_safetensors, read_headers
from ..strict import Convert, Loader, UnknownTensor
from ..weight_files import build_empty, check_names
from .scaled import Scales, read_scales, split_scales

Config = TypeVar("Config")
Module = TypeVar("Module", bound=nn.Module)

_MARKS = {"v_pred", "ztsnr"}


@dataclass(frozen=True)
class Section:
    """The tensors of a file under one prefix.

    Attributes:
        path: The file.
        prefix: The prefix, with its dot.
        stored: The tensors, without scales.
        scales: Scales of fp8 weights, by the weights' full names.
    """

    path: Path
    prefix: str
    stored: tuple[Stored, ...]
    scales: Scales = field(default_factory=dict)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors, by their names without the prefix."""
        return {tensor.name[len(self.prefix) :]: tensor.shape for tensor in self.stored}

    @property
    def label(self) -> str:
        """The file and the prefix, for errors."""
        return f"{self.path} ({self.prefix}*)" if self.prefix else str(self.path)

    def shape(self, name: str, what: str, dims: int) -> tuple[int, ...]:
        """The shape of a tensor that the component must have.

        Args:
            name: Name without the prefix.
            what: The component, for errors.
            dims: Number of dimensions that it must have.

        Raises:
            ValueError: If the tensor is missing, empty or has another number of dimensions.
        """
        if name not in self.shapes:
            raise ValueError(f"{self.label}: no {what} in the original layout: {self.prefix + name!r} is missing")
        shape = self.shapes[name]
        if len(shape) != dims or 0 in shape:
            raise ValueError(f"{self.label}: {name} is {shape}; a {what} has {dims} dimensions there, none of them 0")
        return shape

    def config(self, read: Callable[[dict[str, Any]], Config], inferred: dict[str, Any]) -> Config:
        """Pass the config that was inferred from shapes to `read`; its ValueErrors then name the file."""
        try:
            return read(inferred)
        except ValueError as error:
            raise ValueError(f"{self.label}: the tensors' shapes do not describe a network: {error}") from error

    def build(self, build: Callable[[], Module]) -> Module:
        """Build a module for this section on the meta device; see `build_empty`."""
        return build_empty(build, self.stored, self.label)

    def full(self, convert: Convert) -> Convert:
        """The conversion `convert` for names with the prefix; fp8 weights are multiplied by their scales before."""

        def convert_full(name: str, tensor: Tensor) -> Mapping[str, Tensor]:
            if name in self.scales and not tensor.is_meta:
                tensor = tensor.float() * self.scales[name]
            return convert(name[len(self.prefix) :], tensor)

        return convert_full

    def count(self, group: str) -> int:
        """The number of blocks in `group`: how many different indices follow it in the names."""
        dots = group.count(".") + 1
        return len({name.split(".")[dots] for name in self.shapes if name.startswith(f"{group}.")})


class SingleFile:
    """A safetensors file with all its tensors but leftovers of training and merging, which are not read.

    Attributes:
        path: The file.
        metadata: The metadata in its header.
        all_shapes: Shapes of all tensors in the file, by name.
        stored: Its tensors, without scales and leftovers.
        shapes: Their shapes, by name.
        marks: Names of tensors that mark how the network was trained ("v_pred", "ztsnr").

    Raises:
        ValueError: If it is not a safetensors file, or if scales of fp8 weights do not fit the weights.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_safetensors(path) as file:
            self.metadata: dict[str, str] = file.metadata() or {}
        everything = tuple(read_headers([path]))
        self.all_shapes = {tensor.name: tensor.shape for tensor in everything}
        self.marks = frozenset(self.all_shapes) & _MARKS
        self.stored, self._scales = split_scales([tensor for tensor in everything if not is_leftover(tensor.name)])
        self.shapes = {tensor.name: tensor.shape for tensor in self.stored}

    @cached_property
    def scales(self) -> Scales:
        """Scales of fp8 weights, by the weights' names."""
        return read_scales(self.path, self._scales)

    def has(self, prefix: str) -> bool:
        """Whether the name of a tensor begins with `prefix`."""
        return any(name.startswith(prefix) for name in self.shapes)

    def section(self, prefix: str) -> Section:
        """The tensors whose names begin with `prefix`."""
        stored = tuple(tensor for tensor in self.stored if tensor.name.startswith(prefix))
        return Section(self.path, prefix, stored, self.scales)

    def check_read(self, prefixes: Iterable[str]) -> None:
        """Raise ValueError if a tensor is under none of the `prefixes`."""
        known = tuple(prefixes)
        check_names(str(self.path), set(), {name for name in self.shapes if not name.startswith(known)})


Conversion = Callable[[Any], Convert]
"""From a network to the conversion of the names and tensors of a file to its own."""


@dataclass(frozen=True)
class FromSection:
    """A network whose tensors are those of a section.

    Attributes:
        section: The tensors.
        conversion: From the network to the conversion of the section's names and tensors to its own.
    """

    section: Section
    conversion: Conversion

    def load(self, build: Callable[[], Module], loader: Loader) -> Module:
        """Build the network on the meta device and match it with the section; the loader reads the weights later.

        Raises:
            ValueError: If tensors are missing, unexpected, misshaped or of the wrong type; each is named.
        """
        network = self.section.build(build)
        return add_section(network, self.section, self.conversion(network), loader)


def keys_by_original(network: nn.Module, original: Callable[[str], str]) -> dict[str, str]:
    """The Hub's name of each tensor of a network, by its name in the original layout.

    Args:
        network: The network.
        original: From the Hub's name of a module to its name in the original layout.
    """
    split = (name.rpartition(".") for name in network.state_dict())
    return {f"{original(module)}.{leaf}": f"{module}.{leaf}" for module, _, leaf in split}


def by_name(names: dict[str, str]) -> Convert:
    """The conversion that renames by a table from the file's names to the network's."""

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        if name not in names:
            raise UnknownTensor(f"tensor {name!r} is not part of the original layout")
        return {names[name]: tensor}

    return convert


def add_section(
    network: Module, section: Section, convert: Convert, loader: Loader, dtype: torch.dtype | None = None
) -> Module:
    """Match a network on the meta device with a section; the loader reads the weights later.

    Args:
        network: The network.
        section: Its tensors in the file.
        convert: From names without the section's prefix to the network's.
        loader: Reads the weights.
        dtype: Number format of the weights; None for the loader's.

    Raises:
        ValueError: If tensors are missing, unexpected, misshaped or of the wrong type; each is named.
    """
    return loader.add(network, section.stored, section.full(convert), section.label, dtype=dtype)
