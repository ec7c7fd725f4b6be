"""Writes files atomically: complete or not at all, and over an existing file only on request."""

import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def _exists(path: Path) -> FileExistsError:
    return FileExistsError(
        f"output file '{path}' exists and is kept; choose another name, or overwrite it (--overwrite, overwrite=True)"
    )


def check_target(path: Path, overwrite: bool = False, ending: str = ".png") -> None:
    """Check that an output file can be written, before any work is done.

    Args:
        path: The file.
        overwrite: Whether it may exist.
        ending: Ending that it must have.

    Raises:
        ValueError: If `path` has another ending.
        FileExistsError: If `path` is a folder, or exists and may not be overwritten.
        NotADirectoryError: If one of its parent folders is a file.
    """
    if path.suffix.lower() != ending:
        raise ValueError(f"output file '{path}' must end in {ending}")
    if path.is_dir():
        raise FileExistsError(f"output file '{path}' is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise _exists(path)
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise NotADirectoryError(f"output file '{path}' cannot be created: '{parent}' is a file, not a folder")


def write_whole(path: Path, write: Callable[[BinaryIO], object], overwrite: bool = False) -> None:
    """Write a file that appears under its name when it is complete; missing parent folders are created.

    Args:
        path: The file.
        write: Writes the content to an open binary file.
        overwrite: Whether an existing file is replaced.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is False.
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
    """Replace the content of a file: readers see the old content or the new, never a part.

    Args:
        path: The file; it need not exist.
        content: Its new content.

    Raises:
        FileNotFoundError: If the parent folder does not exist.
    """
    _write(path, lambda file: file.write(content), overwrite=True)


def _write(path: Path, write: Callable[[BinaryIO], object], overwrite: bool) -> None:
    part = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with naming_file(path):
            part.unlink(missing_ok=True)
            with part.open("xb") as file:  # never through a link that lies under this name
                write(file)
                file.flush()
                os.fsync(file.fileno())
        _publish(part, path, overwrite)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Context manager that adds `path` to errors of the operating system that name no file, such as a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _publish(part: Path, path: Path, overwrite: bool) -> None:
    """Give the complete file its name in one step; a hard link never replaces a file created in the meantime."""
    if overwrite:
        part.replace(path)
        return
    try:
        os.link(part, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError:  # file systems without hard links: check again, then rename
        if path.exists():
            raise _exists(path) from None
        part.replace(path)
