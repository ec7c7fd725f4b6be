"""The autoencoder that a user names: a single file, or a folder in the Hub's layout."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sadaflow.models import Autoencoder
from sadaflow.models.causal_autoencoder import CausalAutoencoder
from sadaflow.models.tiny_autoencoder import TinyVae
from sadaflow.models.tiny_autoencoder.config import TABLE as _TINY

from .checkpoint import Checkpoint
from .embedded import embedded
from .hub.locate import Name, is_file_name, locate_checkpoint, locate_file, locate_parts
from .hub.options import HubOptions
from .json_file import naming
from .layouts.autoencoders import CAUSAL
from .layouts.row import Layout
from .layouts.table import require_layout
from .single_file import autoencoder, causal_autoencoder, tiny
from .single_file.layout import Section, SingleFile
from .strict import Loader


@dataclass(frozen=True)
class VaeSource:
    """An autoencoder in a file or folder.

    Attributes:
        path: The file; or the folder of the autoencoder, tiny or not, or of a checkpoint that has it in vae/.
    """

    path: Path

    @classmethod
    def locate(cls, name: Name, hub: HubOptions) -> "VaeSource":
        """Find what a user names, and check its kind.

        Args:
            name: A file, a folder, a Hub id, "owner/name/file.safetensors", or the name of an embedded checkpoint.
            hub: How the Hub is reached.

        Raises:
            ValueError: If it is not an autoencoder of a known layout.
            FileNotFoundError, ConnectionError, PermissionError, OSError: If a file cannot be fetched.
        """
        if not isinstance(name, (str, os.PathLike)):
            raise ValueError(f"vae={type(name).__name__} is not a name: pass a file, a folder or a Hub id")
        if is_file_name(name):
            path = locate_file(name, hub)
            _layout(SingleFile(path))
            return cls(path)
        name = embedded(name)
        folder = Path(name)
        if folder.is_dir():
            return cls(folder)
        try:
            return cls(locate_checkpoint(name, hub, marker="config.json"))
        except FileNotFoundError:
            return cls(locate_parts(name, ("vae",), hub))

    def build(self, kind: type[Autoencoder], scaling: dict[str, Any], loader: Loader) -> Autoencoder:
        """Build the autoencoder; the loader reads its weights.

        Args:
            kind: Class of the checkpoint's autoencoder.
            scaling: Fields of the config that the shapes of a single file do not show. A folder has its own.
            loader: Reads the weights.

        Raises:
            ValueError: If it is of another class, or if tensors are missing, unexpected, misshaped or of the wrong
                type.
            FileNotFoundError: If the folder has no config.json.
        """
        if self.path.is_file():
            return self._from_file(kind, scaling, loader)
        component = "" if (self.path / "config.json").is_file() else "vae"
        folder = self.path / component
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"vae={str(self.path)!r}: neither it nor a folder vae/ in it has a config.json")
        checkpoint = Checkpoint(folder, None, loader.dtype, loader.device, loader.keeper, loader.pending)
        if checkpoint.json("config.json").get("_class_name") == _TINY.owner:
            return self._tiny(kind, scaling, folder, loader)
        config = checkpoint.read(kind.config_class.from_dict, "config.json")
        held = replace(checkpoint, dtype=config.safe_dtype(loader.dtype))
        return held.network("", lambda: kind(config), kind.rename)

    def _from_file(self, kind: type[Autoencoder], scaling: dict[str, Any], loader: Loader) -> Autoencoder:
        file = SingleFile(self.path)
        layout = _layout(file)
        if layout.kind == tiny.KIND:
            return self._tiny(kind, scaling, self.path, loader)
        load = _LOADERS.get(kind)
        if load is None or load is not _LOADERS[CausalAutoencoder if layout.family == CAUSAL else Autoencoder]:
            raise ValueError(f"vae={self.path} holds: {layout.name}; {_needs(kind)}")
        file.check_read((layout.prefix,))
        return load(file.section(layout.prefix), scaling, loader)

    def _tiny(self, kind: type[Autoencoder], scaling: dict[str, Any], source: Path, loader: Loader) -> Autoencoder:
        """Build a tiny autoencoder, whose latents are those of KL autoencoders without normalisation."""
        if kind is not Autoencoder:
            raise ValueError(f"vae={source} is a tiny autoencoder; {_needs(kind)}")
        if scaling.get("latents_mean") is not None:
            raise ValueError(f"vae={source} is a tiny autoencoder, and this checkpoint's latents are normalised")
        with naming(source):
            return TinyVae(tiny.load_tiny(source, loader))


_LOADERS: Final[dict[type[Autoencoder], Callable[[Section, dict[str, Any], Loader], Autoencoder]]] = {
    Autoencoder: autoencoder.load,
    CausalAutoencoder: causal_autoencoder.load,
}


def _layout(file: SingleFile) -> Layout:
    return require_layout(file.all_shapes, file.path, ("autoencoder", tiny.KIND), "an autoencoder")


def _needs(kind: type[Autoencoder]) -> str:
    return f"this checkpoint's latents are those of an {kind.config_class.table.owner}"
