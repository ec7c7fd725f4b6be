"""A lock on a folder: one command writes to it at a time, with any number of processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def occupied(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Locks `folder` while this process works in it.

    The lock is an advisory lock of the system (`flock`) on the folder itself: it leaves no file behind, and ends with
    the process. Windows and some network drives have no such lock; there nothing is refused.

    Args:
        folder: The folder, which exists.
        alone: Exclude all other processes, to prepare or merge files. Otherwise processes share the folder.

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
                f"another command is at work in the folder '{folder}': wait until it has ended, or name another folder"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)
