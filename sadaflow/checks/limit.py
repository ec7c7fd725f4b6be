"""Ends code that does not return."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class OutOfTime(BaseException):
    """Raised in code that takes too long; no Exception, so that code which catches everything does not catch it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Context manager: raises OutOfTime inside, in the thread that entered it, once `seconds` have passed.

    It ends loops of Python code. A single call that blocks outside of Python is ended when it returns.
    """
    done, thread = threading.Event(), threading.get_ident()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            interrupt(thread)
            wait = 1.0  # the code may have caught it

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def interrupt(thread: int) -> None:
    """Raises OutOfTime in a thread, given its identifier."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(OutOfTime))
