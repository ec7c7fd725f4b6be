"""Writes embedded checkpoints as complete folders, which other libraries load."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .embedded import checkpoint_files, embedded, embedded_names
from .hub.write import write_json
from .json_file import read_object
from .sampling_defaults import FIELD, SHARED


def export_checkpoint(name: str, folder: str | os.PathLike[str]) -> Path:
    """Write an embedded checkpoint to a new folder in the Hub's layout, as Diffusers loads it.

    Components that the package stores once for several checkpoints are copied in. The folder appears under its name
    when it is complete.

    Args:
        name: Name of the embedded checkpoint ("tiny-flux").
        folder: Folder to create; missing parent folders are created too.

    Returns:
        The folder.

    Raises:
        ValueError: If no embedded checkpoint has this name.
        FileExistsError: If `folder` exists.
    """
    if name not in embedded_names():
        raise ValueError(f"{name!r} is not an embedded checkpoint: {', '.join(embedded_names())}")
    with new_folder(folder) as draft:
        _copy(Path(embedded(name)), draft)
    return Path(folder)


@contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Context manager: a path to create and fill, which appears under the name `folder` when all is written.

    Args:
        folder: Folder to create; missing parent folders are created too.

    Raises:
        FileExistsError: If `folder` exists.
    """
    target = Path(folder)
    if os.path.lexists(target):
        raise _exists(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        draft = Path(scratch) / target.name
        yield draft
        try:
            draft.rename(target)
        except OSError as error:
            if os.path.lexists(target):  # created by another process in the meantime
                raise _exists(target) from error
            raise


def _copy(root: Path, target: Path) -> None:
    """Copy all files of the checkpoint in `root` to `target`, without references to other checkpoints."""
    for file, source in checkpoint_files(root).items():
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / file)
    index = target / "model_index.json"
    if index.is_file():
        content = read_object(index)
        own = {key: value for key, value in content.get(FIELD, {}).items() if key != SHARED}
        write_json(index, {**content, FIELD: own})


def _exists(folder: Path) -> FileExistsError:
    return FileExistsError(f"{folder} exists; export to a folder that does not")
