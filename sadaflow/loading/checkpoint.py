"""A checkpoint in the Hub's pipeline layout."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from .embedded import component_folder, shared_components
from .hub.layout import component_names
from .json_file import naming, read_object
from .safetensors_file import Stored, read_headers
from .strict import Loader, MatchedNetwork, renamed
from .weight_files import build_empty, find_weights
from .weight_source import Keeper

Module = TypeVar("Module", bound=nn.Module)
Config = TypeVar("Config")


def unchanged_name(name: str) -> str:
    """The renaming that keeps every name."""
    return name


class Replacement(Protocol):
    """Tensors of a component that are elsewhere than in its folder."""

    def load(self, build: Callable[[], Module], loader: Loader) -> Module:
        """Build the component on the meta device and match it with them; see `Checkpoint.network`."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """The folder of a checkpoint, and how its weights are loaded.

    `network` builds and checks networks without reading weights; `fill` then reads the weights of all of them.

    Attributes:
        root: The folder.
        variant: Variant of the weight files to prefer ("fp16"), or None.
        dtype: Number format of the weights in memory.
        device: Where the weights are loaded.
        keeper: Takes over the networks instead, if not None.
        pending: Networks whose weights `fill` will read.
        replaced: Tensors to read in place of a component's own files, by component.
    """

    root: Path
    variant: str | None
    dtype: torch.dtype
    device: torch.device
    keeper: Keeper | None = None
    pending: list[MatchedNetwork] = field(default_factory=list, compare=False)
    replaced: Mapping[str, "Replacement"] = field(default_factory=dict, compare=False)

    @property
    def loader(self) -> Loader:
        """The loader of the checkpoint's networks; it shares `pending`."""
        return Loader(self.dtype, self.device, self.keeper, self.pending)

    def path(self, component: str, *names: str) -> Path:
        """Path of a component's folder or of a file in it; "" is the root (see `component_folder`)."""
        return component_folder(self.root, component).joinpath(*names)

    def json(self, *path: str) -> dict[str, Any]:
        """Read the JSON file at `path` in the checkpoint; errors are those of `read_object`."""
        return read_object(self.path(*path))

    def read(self, reader: Callable[[dict[str, Any]], Config], *path: str) -> Config:
        """Pass the JSON file at `path` in the checkpoint to `reader`; its ValueErrors then name the file."""
        with naming(self.path(*path)):
            return reader(self.json(*path))

    def expect(self, components: Mapping[str, str | tuple[str, ...]]) -> None:
        """Check that model_index.json names the supported classes.

        Args:
            components: The class of each component, or several that are read alike.

        Raises:
            ValueError: If it names others.
        """
        index = self.json("model_index.json")
        component_names(index, f"{self.root}/model_index.json")
        shared_components(self.root, index)
        for component, known in components.items():
            names, found = (known,) if isinstance(known, str) else known, index.get(component)
            if not isinstance(found, list) or not found or found[-1] not in names:
                supported = " or ".join(names)
                raise ValueError(f"{self.root}/model_index.json: {component} is {found!r}, supported: {supported}")

    def headers(self, component: str, stem: str = "diffusion_pytorch_model") -> Sequence[Stored]:
        """The tensors in the weight files of `component`, from their headers; see `find_weights`."""
        return tuple(read_headers(find_weights(self.path(component), stem, self.variant)))

    def network(
        self, component: str, build: Callable[[], Module], rename: Callable[[str], str] = unchanged_name
    ) -> Module:
        """Build a network on the meta device and match it with its weight files; `fill` reads the weights.

        Args:
            component: Folder of the component, "" for the root.
            build: Builds the network.
            rename: From a tensor's name in the file to its name in the network.

        Raises:
            ValueError: If tensors are missing, unexpected, misshaped or of the wrong type.
            FileNotFoundError: If there are no weight files.
        """
        if component in self.replaced:
            return self.replaced[component].load(build, self.loader)
        stored, label = self.headers(component), str(self.path(component))
        return self.loader.add(build_empty(build, stored, label), stored, renamed(rename), label)

    def fill(self) -> None:
        """Read the weights of all pending networks.

        Raises:
            ValueError: If a tensor holds NaN or infinity, or overflows in the dtype.
        """
        self.loader.fill()
