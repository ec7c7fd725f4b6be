"""Calls that must not overlap: one pipeline's, where its weights come and go or compiled code holds its buffers."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock


class Turns:
    """Lets one thread at a time through. A copy, by `copy` or `pickle`, has a queue of its own."""

    def __init__(self) -> None:
        self._lock = RLock()

    def __reduce__(self) -> tuple[type["Turns"], tuple[()]]:
        return Turns, ()

    @contextmanager
    def taken(self, needed: bool) -> Iterator[None]:
        """Wait for the others, if it is `needed`, and make them wait until the block ends."""
        if not needed:
            yield
            return
        with self._lock:
            yield
