"""Silences the log messages of `transformers` while anybody reads a checkpoint with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any


class _Readers:
    """How many are reading, and the verbosity to put back after the last: it is one setting for all threads."""

    def __init__(self) -> None:
        self.lock, self.count, self.before = Lock(), 0, 0


_READERS = _Readers()


@contextmanager
def quiet(logging: Any) -> Iterator[None]:
    """While the block lasts, in whatever thread, `transformers.logging` lets only errors through."""
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
