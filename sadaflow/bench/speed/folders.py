"""The folders of a measurement: that of a checkpoint that both sides load, and that of the results."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

import torch

from ...loading.embedded import embedded, embedded_names
from ...loading.export import export_checkpoint
from ...loading.hub.locate import locate_checkpoint
from .architectures import is_random
from .random_checkpoint import random_checkpoint


def checkpoint_folder(model: str, cache: Path, scratch: str, dtype: torch.dtype) -> Path:
    """A folder that both sides can load; an embedded checkpoint is exported to `scratch`, complete for Diffusers."""
    if is_random(model):
        return random_checkpoint(model, cache, dtype)
    if model in embedded_names():
        return export_checkpoint(model, Path(mkdtemp(dir=scratch)) / model)
    return locate_checkpoint(embedded(model))


def check_folder(out: Path, files: Sequence[str]) -> None:
    """Checks that a folder can take results.

    Raises:
        NotADirectoryError: If it is a file.
        FileExistsError: If it holds one of `files`.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; name a folder for the results")
    for name in files:
        if (out / name).exists():
            raise FileExistsError(f"{out / name} exists; name another folder")
