"""A folder in the Hub's pipeline layout, and how its components are read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from .hub_files import component_names
from .jsonfile import naming, read_object
from .stored_weights import StoredWeights
from .streaming import Read
from .weights import find_weights, load_module, match_module, same

Module = TypeVar("Module", bound=nn.Module)
Config = TypeVar("Config")


class Keeper(Protocol):
    """Sees to the weights of networks that were built without memory."""

    def add(self, network: nn.Module, read: Read) -> None:
        """Of this network, whose weights `read` gives."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """Where a checkpoint lies, and how it is wanted: file `variant` ("fp16"), dtype and device of the weights.

    With a `keeper`, weights are not loaded but left to it.
    """

    root: Path
    variant: str | None
    dtype: torch.dtype
    device: torch.device
    keeper: Keeper | None = None

    def json(self, *path: str) -> dict[str, Any]:
        """A JSON object of the checkpoint; FileNotFoundError or ValueError that names the file."""
        return read_object(self.root.joinpath(*path))

    def read(self, reader: Callable[[dict[str, Any]], Config], *path: str) -> Config:
        """Passes a JSON object of the checkpoint to `reader`; a ValueError that it raises names the file."""
        with naming(self.root.joinpath(*path)):
            return reader(self.json(*path))

    def expect(self, components: dict[str, str]) -> None:
        """Raise ValueError unless model_index.json names these classes for these components."""
        index = self.json("model_index.json")
        component_names(index, f"{self.root}/model_index.json")
        for component, name in components.items():
            found = index.get(component)
            if not isinstance(found, list) or found[-1:] != [name]:
                raise ValueError(f"{self.root}/model_index.json: {component} is {found!r}, supported: {name}")

    def load(self, component: str, build: Callable[[], Module], rename: Callable[[str], str] = same) -> Module:
        """The module of `component`, strictly filled (see `load_module`)."""
        files = find_weights(self.root / component, "diffusion_pytorch_model", self.variant)
        if self.keeper is None:
            return load_module(build, files, dtype=self.dtype, device=self.device, rename=rename)
        module, stored = match_module(build, files, rename)
        module = module.to(self.dtype).requires_grad_(False).eval()
        self.keeper.add(module, StoredWeights(module, stored))
        return module
