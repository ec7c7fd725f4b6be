"""A folder in the Hub's pipeline layout, and how its components are read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from .embedded import component_folder, shared_components
from .hub.layout import component_names
from .json_file import naming, read_object
from .safetensors_file import Stored, read_headers
from .strict import Keeper, Loader, Weights, renamed
from .weight_files import build_empty, find_weights, same

Module = TypeVar("Module", bound=nn.Module)
Config = TypeVar("Config")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder, and how its weights are loaded.

    Networks are built and checked one after the other without reading a weight; `fill` then reads all of them.

    Attributes:
        root: The folder.
        variant: Marked files to prefer ("fp16"), or None.
        dtype: Of the weights in memory.
        device: Where the weights go.
        keeper: Takes over the weights in place of loading them, if not None.
        pending: Networks whose weights have not been read.
    """

    root: Path
    variant: str | None
    dtype: torch.dtype
    device: torch.device
    keeper: Keeper | None = None
    pending: list[Weights] = field(default_factory=list, compare=False)

    @property
    def loader(self) -> Loader:
        return Loader(self.dtype, self.device, self.keeper, self.pending)

    def path(self, component: str, *names: str) -> Path:
        """Path of a component's folder or of a file in it; "" is the root (see `component_folder`)."""
        return component_folder(self.root, component).joinpath(*names)

    def json(self, *path: str) -> dict[str, Any]:
        """Read a JSON object of the checkpoint: `json("vae", "config.json")`.

        Raises:
            FileNotFoundError: If the file is missing.
            ValueError: If it does not hold a JSON object.
        """
        return read_object(self.path(*path))

    def read(self, reader: Callable[[dict[str, Any]], Config], *path: str) -> Config:
        """Passes a JSON object of the checkpoint to `reader`; a ValueError that it raises names the file."""
        with naming(self.path(*path)):
            return reader(self.json(*path))

    def expect(self, components: dict[str, str]) -> None:
        """Raise ValueError unless model_index.json names these classes for these components."""
        index = self.json("model_index.json")
        component_names(index, f"{self.root}/model_index.json")
        shared_components(self.root, index)
        for component, name in components.items():
            found = index.get(component)
            if not isinstance(found, list) or found[-1:] != [name]:
                raise ValueError(f"{self.root}/model_index.json: {component} is {found!r}, supported: {name}")

    def headers(self, component: str, stem: str = "diffusion_pytorch_model") -> Sequence[Stored]:
        """What the weight files of `component` hold, from their headers (see `find_weights`)."""
        return tuple(read_headers(find_weights(self.path(component), stem, self.variant)))

    def network(self, component: str, build: Callable[[], Module], rename: Callable[[str], str] = same) -> Module:
        """A network on the meta device that fits the weights of `component`; `fill` reads them.

        Args:
            component: Folder of the component, "" for the root.
            build: Makes the network.
            rename: From a tensor's name in the file to the network's.

        Raises:
            ValueError: If tensors are missing, unexpected, misshaped or of the wrong kind.
        """
        stored, place = self.headers(component), str(self.path(component))
        return self.loader.add(build_empty(build, stored, place), stored, renamed(rename), place)

    def fill(self) -> None:
        """Read the weights of all networks built so far.

        Raises:
            ValueError: If a tensor holds NaN or infinity, or overflows in the dtype.
        """
        self.loader.fill()
