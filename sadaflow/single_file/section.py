"""A safetensors file that holds several components, each under a prefix of its own, and how one of them is read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..weights import check_names, open_safetensors

Module = TypeVar("Module", bound=nn.Module)
Convert = Callable[[str, Tensor], dict[str, Tensor]]
"""From a tensor and its name in the file to what it holds under the Hub's names; nothing for what is left aside.

It is called with tensors on the meta device too. Raises UnknownTensor for a name that the layout does not have.
"""


class UnknownTensor(ValueError):
    """A name that a layout does not have."""


@dataclass(frozen=True)
class Section:
    """Tensors of a file under one prefix. `shapes` has their names, without the prefix."""

    path: Path
    prefix: str
    shapes: dict[str, tuple[int, ...]]

    @property
    def place(self) -> str:
        return f"{self.path} ({self.prefix}*)" if self.prefix else str(self.path)

    def shape(self, name: str, what: str) -> tuple[int, ...]:
        """Shape of a tensor that every `what` has; ValueError without it."""
        if name not in self.shapes:
            raise ValueError(f"{self.place}: no {what} in the original layout: {self.prefix + name!r} is missing")
        return self.shapes[name]

    def count(self, group: str) -> int:
        """How many numbers follow `group` ("double_blocks") in the names."""
        dots = group.count(".") + 1
        return len({name.split(".")[dots] for name in self.shapes if name.startswith(f"{group}.")})


class SingleFile:
    """What a safetensors file holds. `shapes` has all its tensors; `metadata` is what its writer noted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_safetensors(path) as file:
            self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            self.metadata: dict[str, str] = file.metadata() or {}

    def has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.shapes)

    def section(self, prefix: str) -> Section:
        shapes = {name[len(prefix) :]: shape for name, shape in self.shapes.items() if name.startswith(prefix)}
        return Section(self.path, prefix, shapes)

    def check_read(self, prefixes: Iterable[str]) -> None:
        """Raise ValueError for tensors under none of the `prefixes`."""
        known = tuple(prefixes)
        check_names(str(self.path), set(), {name for name in self.shapes if not name.startswith(known)})


def split_fused(fused: Tensor, shares: Sequence[int]) -> tuple[Tensor, ...]:
    """The projections fused along the rows of a weight or bias, whose heights are as `shares`; they share memory."""
    unit, rest = divmod(fused.shape[0], sum(shares))
    if rest:
        raise ValueError(f"{fused.shape[0]} rows do not split as {':'.join(map(str, shares))}")
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
    """What a section holds under the Hub's names, and the names that the layout does not have."""
    found: dict[str, Origin] = {}
    unknown: set[str] = set()
    for name, shape in section.shapes.items():
        try:
            parts = convert(name, torch.empty(shape, device="meta"))
        except UnknownTensor:
            unknown.add(section.prefix + name)
        else:
            found |= {target: (section.prefix + name, tuple(part.shape)) for target, part in parts.items()}
    return found, unknown


def read(section: Section, convert: Convert, *, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """All tensors of a section after conversion."""
    state: dict[str, Tensor] = {}
    with open_safetensors(section.path) as file:
        for name in section.shapes:
            state |= convert(name, file.get_tensor(section.prefix + name).to(device=device, dtype=dtype))
    return state


def fill(
    build: Callable[[], Module], section: Section, convert: Convert, *, dtype: torch.dtype, device: torch.device
) -> Module:
    """The module that `build` makes, filled from a section; convolutions in channels-last layout.

    Raises ValueError naming what is missing, unexpected or misshaped before any tensor is read.
    """
    with torch.device("meta"):
        module = build()
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
    module = module.requires_grad_(False).eval()
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
