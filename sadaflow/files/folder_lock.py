"""A folder that one command fills at a time, however many processes the command has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def occupied(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """While this process works in `folder`: among those of its command, or `alone` to put things in order for them.

    Raises BlockingIOError where another is in the way. The lock is the system's, on the folder itself, and goes with
    the process however it ends. Windows has none of the kind, nor have some network drives: there nothing is refused.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another command is at work in the folder '{folder}': wait until it has ended, or name another folder"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(place)
