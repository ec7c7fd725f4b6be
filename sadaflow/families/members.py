"""Checks that a class has the members of a family, so that a stranger's is refused before any weights are read."""

from collections.abc import Callable
from typing import Any, Final

from sadaflow.solvers.names.locate import summary

from ..loading.checkpoint import Checkpoint
from .base import Family

_OF_CLASS: Final = (
    *("components", "default_guidance"),
    *("prepare", "scheduler_config", "condition", "decode"),
)
_OF_OBJECT: Final = ("options", "backbone", "patch", "latent_channels", "default_size", "adaptable", "networks")


def family_of(label: str, made: Any) -> type[Family]:
    """`made`, if it has what a class of families must have; raises ValueError, beginning with `label`, if not."""
    if not isinstance(made, type):
        raise ValueError(f"{label} is {made!r}, which is not a class")
    if missing := [name for name in _OF_CLASS if not hasattr(made, name)]:
        raise ValueError(f"{label}: the class {made.__name__} is not a family, it lacks {', '.join(missing)}")
    found: type[Family] = made
    return found


def prepare_family(class_name: str, family: type[Family], checkpoint: Checkpoint) -> Callable[[], Family]:
    """`family.prepare(checkpoint)`; what a stranger's family raises there or in building becomes a ValueError.

    Args:
        class_name: The `_class_name` of the checkpoint.
        family: Its family.
        checkpoint: The checkpoint.

    Returns:
        A function that builds the networks and matches them with the weight files.

    Raises:
        ValueError: If the family fails. So does the function, also if what it builds lacks members of a family.
    """
    if family.__module__.startswith("sadaflow."):
        return family.prepare(checkpoint)
    label = f"the family {family.__name__} of {family.__module__}, which loads {class_name},"
    build = _called(label, lambda: family.prepare(checkpoint))
    if not callable(build):
        raise ValueError(f"{label} must return a function from prepare, got {build!r}")

    def finish() -> Family:
        made: Family = _called(label, build)
        if missing := [name for name in _OF_OBJECT if not hasattr(made, name)]:
            raise ValueError(f"{label} built a {type(made).__name__} that lacks {', '.join(missing)}")
        return made

    return finish


def _called(label: str, step: Callable[[], Any]) -> Any:
    try:
        return step()
    except (ValueError, OSError, ImportError, MemoryError):
        raise
    except Exception as error:  # a stranger's class may raise anything
        raise ValueError(f"{label} failed: {summary(error)}") from error
