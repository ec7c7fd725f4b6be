"""Pauses Python's garbage collection while networks are built."""

import gc
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def collects_afterwards(load: Callable[P, T]) -> Callable[P, T]:
    """Decorates a function that makes many objects, none of which is garbage: collections would only search them."""

    @wraps(load)
    def paused(*args: P.args, **kwargs: P.kwargs) -> T:
        running = gc.isenabled()
        gc.disable()
        try:
            return load(*args, **kwargs)
        finally:
            if running:
                gc.enable()

    return paused
