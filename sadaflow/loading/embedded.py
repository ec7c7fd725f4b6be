"""Names of the checkpoints that are part of the package."""

import os
from pathlib import Path

EMBEDDED = Path(__file__).parents[1] / "checkpoints"
DEFAULT = "tiny-sd"


def embedded_names() -> list[str]:
    """Names of all embedded pipelines and single components, sorted."""
    return sorted(folder.name for folder in EMBEDDED.iterdir() if folder.is_dir())


def embedded(model: str | os.PathLike[str] | None) -> str:
    """Replace the name of an embedded checkpoint by its folder.

    Args:
        model: A name, a folder or a Hub id; None for "tiny-sd". An embedded name takes precedence over a folder of the
            same name, which is written "./tiny-sd".

    Returns:
        The folder of the embedded checkpoint; else `model`.

    Raises:
        ValueError: If `model` has no separator and is neither an embedded checkpoint nor a path that exists.
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
