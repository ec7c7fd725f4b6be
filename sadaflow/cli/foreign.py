"""Names the code outside of this library that an error is due to."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any

from sadaflow.solvers.names.locate import summary
from sadaflow.solvers.names.registry import Registry
from sadaflow.solvers.registry import REGISTRY as SOLVERS

from ..accelerators.registry import REGISTRY as ACCELERATORS
from ..families import REGISTRY as FAMILIES


def owner(error: BaseException) -> str | None:
    """A line that names the code outside of this library that an error is due to; None if none is in use.

    It is the innermost function of the traceback that is of the module or package of a registered solver, accelerator
    or family. If there is none, the modules in use are named: ours may fail on what they returned.
    """
    registries: tuple[Registry[Any], ...] = (SOLVERS, ACCELERATORS, FAMILIES)
    foreign = {module for registry in registries for module in registry.foreign_modules()}
    packages = {module if "/" in module else module.partition(".")[0] for module in foreign}
    packages -= {"sadaflow"}
    found = None
    for name, function in _frames(error.__traceback__):
        package = name if "/" in name else name.partition(".")[0]
        if package in packages:
            found = f"{function} of {name}"
    if found is not None:
        return f"{found} failed with {summary(error)}; --debug shows where"
    if not packages:
        return None
    return f"{summary(error)}, with code of {', '.join(sorted(foreign))} in use; --debug shows where"


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, str]]:
    """(module, function) of each frame, the innermost last."""
    while trace is not None:
        code = trace.tb_frame.f_code
        yield str(trace.tb_frame.f_globals.get("__name__", "")), code.co_qualname
        trace = trace.tb_next
