"""The checkpoints that come with the package: their names, their folders and the components that they share."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sadaflow.solvers.names.settings import nearest

from .hub.layout import lies_at_root
from .json_file import read_object
from .sampling_defaults import FIELD, SHARED

EMBEDDED = Path(__file__).parents[1] / "checkpoints"
"""Folder of the embedded checkpoints."""
DEFAULT = "tiny-sd"
"""Name of the checkpoint that is used if none is named."""

_INDEX = "model_index.json"
_REFERENCE = re.compile(r"[\w-]+/\w+", re.ASCII)


def embedded_names() -> list[str]:
    """Names of the embedded pipelines and of the embedded single components, sorted."""
    return sorted(folder.name for folder in EMBEDDED.iterdir() if folder.is_dir())


def embedded(model: str | os.PathLike[str] | None) -> str:
    """The folder of the embedded checkpoint named `model`; any other folder or Hub id is returned unchanged.

    Args:
        model: Name of an embedded checkpoint, a folder or a Hub id; None means tiny-sd. A folder that has the name of
            an embedded checkpoint is written "./tiny-sd".

    Raises:
        ValueError: If `model` has no slash, and neither an embedded checkpoint nor a file or folder has this name.
    """
    name = DEFAULT if model is None else str(model)
    if name in embedded_names():
        return str(EMBEDDED / name)
    if not set("/\\") & set(name) and not Path(name).exists():
        raise ValueError(
            f"{name!r} is neither a folder, nor a Hub id of the form owner/name, nor an embedded checkpoint"
            f"{nearest(name, embedded_names())}: {', '.join(embedded_names())}"
        )
    return name


def is_embedded(root: Path) -> bool:
    """Whether a folder is that of an embedded checkpoint."""
    return root.resolve().parent == EMBEDDED.resolve()


def component_folder(root: Path, component: str) -> Path:
    """The folder that holds the files of a component.

    It is `root / component`, unless `root` is an embedded checkpoint that takes the component from another one (see
    `shared_components`), or an early checkpoint that has it in `root` itself (see `lies_at_root`).

    Args:
        root: Folder of the checkpoint.
        component: Name of the component ("vae"); the name of a file in `root` gives the path of the file.
    """
    if is_embedded(root) and (root / _INDEX).is_file():
        return shared_components(root, read_object(root / _INDEX)).get(component, root / component)
    folder = root / component
    return root if not folder.exists() and lies_at_root(component, lambda name: (root / name).is_file()) else folder


def shared_components(root: Path, index: Mapping[str, Any]) -> dict[str, Path]:
    """The components that a checkpoint takes from other embedded checkpoints, so that their files are shipped once.

    Args:
        root: Folder of the checkpoint.
        index: Its model_index.json; `{"_sadaflow": {"components": {"vae": "tiny-sd/vae"}}}` shares the autoencoder.

    Returns:
        The folder of each shared component by the component's name.

    Raises:
        ValueError: If `root` is not an embedded checkpoint, but names shared components; or if an entry does not name
            the folder of a component of an embedded checkpoint.
    """
    own = index.get(FIELD)
    found = own.get(SHARED, {}) if isinstance(own, dict) else {}
    if not found:
        return {}
    label = f"{root / _INDEX}: {FIELD}.{SHARED}"
    if not is_embedded(root):
        raise ValueError(
            f"{label} is for checkpoints inside the package only; `sadaflow export NAME FOLDER` writes a complete copy "
            f"of an embedded checkpoint ({', '.join(embedded_names())})"
        )
    if not isinstance(found, dict):
        raise ValueError(f"{label} is not an object of component names and references of the form tiny-sd/vae")
    for component, reference in found.items():
        if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            raise ValueError(f"{label}.{component} is not a reference of the form tiny-sd/vae: {str(reference)[:80]!r}")
        if not (EMBEDDED / reference).is_dir():
            raise ValueError(f"{label}.{component} refers to {reference[:80]}, which is not a folder of the package")
        if (root / component).exists():
            raise ValueError(f"{label}.{component} refers to {reference}, but {root / component} exists; keep one")
    return {component: EMBEDDED / reference for component, reference in found.items()}


def checkpoint_files(root: Path) -> dict[str, Path]:
    """All files of a checkpoint, those of shared components included.

    Args:
        root: Folder of the checkpoint.

    Returns:
        The path of each file by its name relative to the checkpoint ("vae/config.json").
    """
    folders = {"": root}
    if is_embedded(root) and (root / _INDEX).is_file():
        folders |= {f"{name}/": path for name, path in shared_components(root, read_object(root / _INDEX)).items()}
    return {
        prefix + path.relative_to(folder).as_posix(): path
        for prefix, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file()
    }
