"""Access to the `transformers` package, an extra that is imported where it is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .quiet import quiet


def transformers_module() -> Any:
    """The `transformers` package; raises ImportError that names the extra."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError("text encoders need the extra: pip install 'sadaflow[text]'") from error
    return transformers


@contextmanager
def reading(place: Path | str) -> Iterator[Any]:
    """Context manager that gives the `transformers` package with its log messages off.

    Any error of the package is raised as a ValueError that names `place`.
    """
    transformers = transformers_module()
    try:
        with quiet(transformers.logging):
            yield transformers
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        raise ValueError(
            f"{place}: transformers cannot read it: {type(error).__name__}: {str(error)[:500]}"
        ) from error
