"""Makes `sadaflow.models` and `sadaflow.solvers` importable from a checkout that is not installed.

An installed package holds both, and an editable install maps them to the folders beside `sadaflow/`. If neither is the
case, importing this module adds the checkout's root to the path of the package `sadaflow`, so that a machine without a
network can run a checkout as it is.
"""

import importlib.util
import sys
from pathlib import Path

_ROOMS = ("models", "solvers")


def _further_path() -> list[str]:
    """The checkout's root if the subpackages lie in it and are not found otherwise, else nothing."""
    if all(importlib.util.find_spec(f"{__package__}.{room}") is not None for room in _ROOMS):
        return []
    root = Path(__file__).resolve().parent.parent
    return [str(root)] if all((root / room / "__init__.py").is_file() for room in _ROOMS) else []


sys.modules[__package__].__path__.extend(_further_path())
