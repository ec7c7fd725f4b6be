"""Locks an output folder for one command, which may have several processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def occupied(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Context manager that holds a lock on a folder.

    The operating system keeps the lock on the folder itself and releases it when the process ends. Windows and some
    network drives have no such locks: there nothing is refused.

    Args:
        folder: The folder.
        alone: Whether the lock is exclusive, as for preparing the folder; otherwise processes of a command share it.

    Raises:
        BlockingIOError: If another process holds a lock that excludes this one.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another command is writing to the folder '{folder}': wait until it ends, or choose another folder"
            ) from None
        except OSError:  # file systems without locks
            pass
        yield
    finally:
        os.close(descriptor)
