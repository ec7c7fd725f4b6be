"""Makes `sadaflow.models` and `sadaflow.solvers` importable from a checkout that is not installed.

An installed package holds both folders. In a checkout they lie beside `sadaflow/`, and an editable install maps them;
without one, importing this module adds the checkout's root to the path of the package `sadaflow`, so that a machine
without a network can run a checkout as it is.
"""

import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_ROOMS = ("models", "solvers")


def _further_path() -> list[str]:
    """Folders to search for subpackages beside the package's own: the checkout's root, or none if installed."""
    root = _PACKAGE.parent
    missing = not any((_PACKAGE / room).is_dir() for room in _ROOMS)
    beside = all((root / room / "__init__.py").is_file() for room in _ROOMS)
    return [str(root)] if missing and beside else []


sys.modules[__package__].__path__.extend(_further_path())
