"""Files that are written whole or not at all, and never over another file unasked."""

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def _kept(path: Path) -> FileExistsError:
    return FileExistsError(
        f"output file '{path}' exists and is kept; name another, or overwrite it (--overwrite, overwrite=True)"
    )


def check_target(path: Path, overwrite: bool = False, ending: str = ".png") -> None:
    """Refuse a place that could not be written to later, before any work is done.

    Raises ValueError for another ending than `ending`, FileExistsError for an existing file, NotADirectoryError.
    """
    if path.suffix.lower() != ending:
        raise ValueError(f"output file '{path}' must end in {ending}")
    if path.is_dir():
        raise FileExistsError(f"output file '{path}' is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise _kept(path)
    above = path.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise NotADirectoryError(f"output file '{path}' cannot be made: '{above}' is a file, not a folder")


def write_whole(path: Path, write: Callable[[BinaryIO], object], overwrite: bool = False) -> None:
    """Let `write` fill the file `path`, which appears under its name only when complete; missing folders are made.

    Raises FileExistsError for an existing file unless `overwrite`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, write, overwrite)


def write_file(path: Path, content: bytes, overwrite: bool = False) -> None:
    """Write a file, which appears under its name only when complete; missing folders are made.

    Raises:
        FileExistsError: If the file exists, unless `overwrite`.
    """
    write_whole(path, lambda file: file.write(content), overwrite)


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` in the place of the file `path`: at every moment there is the old file or the new one, whole.

    Its folder is not made again where it has vanished: FileNotFoundError.
    """
    _write(path, lambda file: file.write(content), overwrite=True)


def _write(path: Path, write: Callable[[BinaryIO], object], overwrite: bool) -> None:
    part = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        _publish(part, path, overwrite)
    finally:
        part.unlink(missing_ok=True)


def _publish(part: Path, path: Path, overwrite: bool) -> None:
    """Give the finished file its name, in one step; a link cannot replace a file that came into being meanwhile."""
    if overwrite:
        part.replace(path)
        return
    try:
        os.link(part, path)
    except FileExistsError:
        raise _kept(path) from None
    except OSError:  # a file system without hard links: look once more, then rename
        if path.exists():
            raise _kept(path) from None
        part.replace(path)
