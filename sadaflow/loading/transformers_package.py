"""Imports the `transformers` package, an extra, when it is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .quiet import quiet


def transformers_module() -> Any:
    """The `transformers` package; raises ImportError with the name of the extra if it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError("text encoders need the extra: pip install 'sadaflow[text]'") from error
    return transformers


@contextmanager
def reading(label: Path | str) -> Iterator[Any]:
    """Context manager that yields the `transformers` package with its log messages off.

    Args:
        label: The file or folder that is read, for errors.

    Raises:
        ValueError: In label of any error inside the block.
    """
    transformers = transformers_module()
    try:
        with quiet(transformers.logging):
            yield transformers
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        raise ValueError(
            f"{label}: transformers cannot read it: {type(error).__name__}: {str(error)[:500]}"
        ) from error
