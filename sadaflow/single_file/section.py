"""A safetensors file that holds several components, each under a prefix of its own, and how one of them is read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..safetensor_file import Stored, open_safetensors, read_headers, read_tensors
from ..weights import build_empty, check_names, is_finite

Config = TypeVar("Config")
Module = TypeVar("Module", bound=nn.Module)
Convert = Callable[[str, Tensor], dict[str, Tensor]]
"""From a tensor and its name in the file to what it holds under the Hub's names; nothing for what is left aside.

It is called with tensors on the meta device too. Raises UnknownTensor for a name that the layout does not have.
"""


class UnknownTensor(ValueError):
    """A name that a layout does not have."""


class Misshaped(ValueError):
    """A shape that cannot be converted."""


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


Origin = tuple[str, tuple[int, ...]]
"""A tensor's name in the file, and its shape after conversion."""


def converted_shapes(section: Section, convert: Convert) -> tuple[dict[str, Origin], set[str]]:
    """What a section holds under the Hub's names, and the names that the layout does not have.

    Raises ValueError naming a tensor that cannot be converted.
    """
    found: dict[str, Origin] = {}
    unknown: set[str] = set()
    for name, shape in section.shapes.items():
        try:
            parts = convert(name, torch.empty(shape, device="meta"))
        except UnknownTensor:
            unknown.add(section.prefix + name)
        except (Misshaped, RuntimeError) as error:  # of torch: sizes without elements beyond what can be counted
            raise ValueError(f"{section.place}: {name}: {error}") from error
        else:
            found |= {target: (section.prefix + name, tuple(part.shape)) for target, part in parts.items()}
    return found, unknown


def read(section: Section, convert: Convert, *, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """All tensors of a section after conversion; ValueError for what is no float, or no finite one."""
    state: dict[str, Tensor] = {}
    for one, tensor in read_tensors(section.stored):
        for name, part in convert(one.name[len(section.prefix) :], tensor).items():
            state[name] = _placed(one, part, dtype, device)
    return state


def _placed(one: Stored, part: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A copy in `dtype` on `device`, convolutions in channels-last layout; ValueError for what is no finite number."""
    if not one.is_float:
        raise ValueError(f"{one.path}: {one.name} holds {one.kind}, expected floats")
    layout = torch.channels_last if part.dim() == 4 else torch.contiguous_format
    placed = part.to(device=device, dtype=dtype, copy=True, memory_format=layout)
    if not is_finite(placed):
        raise ValueError(
            f"{one.path}: {one.name} holds NaN or infinity in {dtype}: the file is damaged, or a wider dtype is needed"
        )
    return placed


def fill(module: Module, section: Section, convert: Convert, *, dtype: torch.dtype, device: torch.device) -> Module:
    """The `module`, which is on the meta device, filled from a section.

    Raises ValueError naming what is missing, unexpected or misshaped before any tensor is read.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found, unknown = converted_shapes(section, convert)
    check_names(section.place, set(expected), set(found) | unknown)
    origins = ((name, *found[name]) for name in expected)
    wrong = [
        f"{source} gives {name} as {shape}, expected {expected[name]}"
        for name, source, shape in origins
        if shape != expected[name]
    ]
    if wrong:
        raise ValueError(f"{section.place}: {len(wrong)} misshaped: {'; '.join(wrong[:5])}")
    module.load_state_dict(read(section, convert, dtype=dtype, device=device), assign=True)
    return module.requires_grad_(False).eval()
