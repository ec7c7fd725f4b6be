"""The checkpoints that come with the package, by name."""

import os
from pathlib import Path

EMBEDDED = Path(__file__).parents[1] / "checkpoints"
DEFAULT = "tiny-sd"


def embedded_names() -> list[str]:
    """Pipelines and single components alike."""
    return sorted(folder.name for folder in EMBEDDED.iterdir() if folder.is_dir())


def embedded(model: str | os.PathLike[str] | None) -> str:
    """The folder of the embedded checkpoint called `model` (None: tiny-sd), or `model` itself where it is none.

    A folder of the same name beside you is written "./tiny-sd". ValueError for a short name that nothing bears.
    """
    name = DEFAULT if model is None else str(model)
    if name in embedded_names():
        return str(EMBEDDED / name)
    if not set("/\\") & set(name) and not Path(name).exists():
        raise ValueError(
            f"{name!r} is neither a folder, nor a Hub id of the form owner/name, nor an embedded checkpoint: "
            f"{', '.join(embedded_names())}"
        )
    return name
