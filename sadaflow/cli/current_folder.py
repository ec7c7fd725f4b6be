"""The current folder as a place for modules."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def importable_here() -> Iterator[None]:
    """Lets `module:Class` find modules in the current folder, after those that are installed."""
    here = str(Path.cwd()) if os.path.isdir(os.curdir) else ""
    added = here not in ("", *sys.path) and "" not in sys.path
    if added:
        sys.path.append(here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
