"""The autoencoder that a user names: a single file, or a folder in the Hub's layout."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sadaflow.models import Autoencoder, AutoencoderConfig

from .checkpoint import Checkpoint
from .embedded import embedded
from .hub.locate import Name, is_file_name, locate_checkpoint, locate_file, locate_parts
from .hub.options import HubOptions
from .layouts.table import require_layout
from .single_file import autoencoder
from .single_file.layout import SingleFile
from .strict import Loader


@dataclass(frozen=True)
class VaeSource:
    """An autoencoder in a file or folder.

    Attributes:
        path: The file; or the folder of the autoencoder, or of a checkpoint that has it in vae/.
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
            require_layout(SingleFile(path).all_shapes, path, ("autoencoder",), "an autoencoder")
            return cls(path)
        name = embedded(name)
        folder = Path(name)
        if folder.is_dir():
            return cls(folder)
        try:
            return cls(locate_checkpoint(name, hub, marker="config.json"))
        except FileNotFoundError:
            return cls(locate_parts(name, ("vae",), hub))

    def build(self, scaling: dict[str, Any], loader: Loader) -> Autoencoder:
        """Build the autoencoder; the loader reads its weights.

        Args:
            scaling: Fields of the config that the shapes of a single file do not show. A folder has its own.
            loader: Reads the weights.

        Raises:
            ValueError: If tensors are missing, unexpected, misshaped or of the wrong type, or if the folder holds
                another class.
            FileNotFoundError: If the folder has no config.json.
        """
        if self.path.is_file():
            file = SingleFile(self.path)
            layout = require_layout(file.all_shapes, self.path, ("autoencoder",), "an autoencoder")
            file.check_read((layout.prefix,))
            return autoencoder.load(file.section(layout.prefix), scaling, loader)
        checkpoint = Checkpoint(self.path, None, loader.dtype, loader.device, loader.keeper, loader.pending)
        component = "" if (self.path / "config.json").is_file() else "vae"
        if not checkpoint.path(component, "config.json").is_file():
            raise FileNotFoundError(f"vae={str(self.path)!r}: neither it nor a folder vae/ in it has a config.json")
        config = checkpoint.read(AutoencoderConfig.from_dict, component, "config.json")
        held = Checkpoint(
            self.path, None, config.safe_dtype(loader.dtype), loader.device, loader.keeper, loader.pending
        )
        return held.network(component, lambda: Autoencoder(config), Autoencoder.rename)
