"""Silences the log messages of `transformers` while it reads a checkpoint, in any number of threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any


class _Readers:
    """The number of active `quiet` blocks, and the verbosity to restore after the last; all threads share it."""

    def __init__(self) -> None:
        self.lock, self.count, self.before = Lock(), 0, 0


_READERS = _Readers()


@contextmanager
def quiet(logging: Any) -> Iterator[None]:
    """Context manager in which `transformers.logging` shows errors only. Blocks of several threads may overlap."""
    with _READERS.lock:
        if _READERS.count == 0:
            _READERS.before = logging.get_verbosity()
            logging.set_verbosity_error()
        _READERS.count += 1
    try:
        yield
    finally:
        with _READERS.lock:
            _READERS.count -= 1
            if _READERS.count == 0:
                logging.set_verbosity(_READERS.before)
