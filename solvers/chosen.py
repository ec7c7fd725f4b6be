"""A solver that a text names: "dpmpp2m-sde eta=0.5", "my.module:MySolver"."""

import inspect
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from .base import Solver
from .grid import Grid
from .names.locate import summary
from .names.registry import Registry
from .names.settings import known_settings, name_of
from .names.text import read_named

if TYPE_CHECKING:
    from .registry import Entry

_METHODS: Final = ("start", "step", "velocity")
_MEMBERS: Final = ("grid", "order", "nodes", "n_evals", *_METHODS)


@dataclass(frozen=True)
class Choice:
    """A solver that a text names.

    Attributes:
        name: the name without settings.
        entry: the class, with the options of the name and the settings.
        settings: the settings that follow the name.
    """

    name: str
    entry: "Entry"
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, text: str, registry: Registry[Any]) -> Self:
        """Reads a name with settings; raises ValueError if one of them is unknown."""
        named = read_named(text, "solver")
        entry = registry.find(named.name)
        known = known_settings(entry.solver, after=1, without=("noise",))
        settings = known.read(dict(named.settings), written=True)
        return cls(named.name, replace(entry, options={**entry.options, **settings}), settings)

    def make(self, grid: Grid, options: Mapping[str, Any]) -> Solver:
        """Constructs the solver; options override what the name stands for.

        Raises:
            ValueError: if an option is unknown or given twice, or if the class fails or makes no solver.
        """
        if twice := sorted(self.settings.keys() & options.keys()):
            raise ValueError(f"solver {self.name!r}: {', '.join(twice)} is given twice, in the name and as an option")
        read = known_settings(self.entry.solver, after=1).read(options, written=False)
        label = f"solver {self.name!r}"
        try:
            made = self.entry.solver(grid, **{**self.entry.options, **read})
        except ValueError:
            raise
        except Exception as error:  # a stranger's class may raise anything
            raise ValueError(f"{label}: {name_of(self.entry.solver)} cannot be made: {summary(error)}") from error
        missing = [member for member in _MEMBERS if not _has(made, member)]
        if missing:
            raise ValueError(f"{label} is a {type(made).__name__}, which lacks {', '.join(missing)} of a solver")
        return made


def require_maker(label: str, made: Any) -> None:
    """Raises ValueError, which begins with `label`, unless `made` is a class of solvers or a function."""
    if not callable(made):
        raise ValueError(
            f"{label} is {reprlib.repr(made)}, which cannot be called: give the solver's class, or a function of a grid"
        )
    if isinstance(made, type):
        missing = [name for name in _METHODS if not callable(getattr(made, name, None))]
        missing += sorted(getattr(made, "__abstractmethods__", ())) if inspect.isabstract(made) else []
        if missing:
            raise ValueError(f"{label}: the class {made.__name__} is not a solver, it lacks {', '.join(missing)}")


def _has(made: object, member: str) -> bool:
    """Whether an object has a member, without computing it."""
    return hasattr(type(made), member) or member in getattr(made, "__dict__", {})
