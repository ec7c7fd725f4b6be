"""Serialises calls of a pipeline whose weights are offloaded or whose compiled code holds buffers."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock


class Turns:
    """A lock for calls that must not overlap. A copy, by `copy` or `pickle`, has a lock of its own."""

    def __init__(self) -> None:
        self._lock = RLock()

    def __reduce__(self) -> tuple[type["Turns"], tuple[()]]:
        return Turns, ()

    @contextmanager
    def taken(self, needed: bool) -> Iterator[None]:
        """Hold the lock within the block, if it is `needed`."""
        if not needed:
            yield
            return
        with self._lock:
            yield
