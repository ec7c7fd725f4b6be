"""Locks an output folder for one command, which may have several processes."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_ATTEMPTS, _PAUSE = 100, 0.01  # seconds


@contextmanager
def occupied(folder: Path, *, alone: bool = False) -> Iterator[Callable[[], None]]:
    """Context manager that holds a lock on a folder.

    The operating system keeps the lock on the folder itself and releases it when the process ends. Windows and some
    network drives have no such locks: there nothing is refused.

    Args:
        folder: The folder.
        alone: Whether the lock is exclusive, as for preparing the folder; otherwise processes of a command share it.

    Yields:
        A function that turns an exclusive lock into one that further processes of the command can share.

    Raises:
        BlockingIOError: If another process holds a lock that excludes this one.
    """
    try:
        import fcntl
    except ImportError:
        yield lambda: None
        return
    descriptor = os.open(folder, os.O_RDONLY)

    def lock(kind: int) -> None:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another command is writing to the folder '{folder}': wait until it ends, or choose another folder"
            ) from None
        except OSError:  # file systems without locks
            pass

    try:
        lock(fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if alone and not _is_at(descriptor, folder):  # removed, or replaced, before it was locked
            raise BlockingIOError(f"another command has just removed the folder '{folder}': start again")
        yield lambda: _patiently(lambda: lock(fcntl.LOCK_SH))
    finally:
        os.close(descriptor)


def _patiently(lock: Callable[[], None]) -> None:
    """Lock, for a second while another command, which will be refused, holds the lock between two of our own."""
    for _ in range(_ATTEMPTS):
        try:
            return lock()
        except BlockingIOError:
            time.sleep(_PAUSE)
    lock()


def _is_at(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False
