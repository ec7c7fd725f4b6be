"""The entry points by which installed packages offer solvers, accelerators and families."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from .locate import summary

GROUPS: Final = ("sadaflow.solvers", "sadaflow.accelerators", "sadaflow.families")
"""Groups of entry points."""


@dataclass(frozen=True)
class Plugin:
    """An entry point of an installed package.

    Attributes:
        point: The entry point.
        what: What it offers, for errors: "solver".
    """

    point: EntryPoint
    what: str

    def __str__(self) -> str:
        distribution = self.point.dist
        package = "" if distribution is None else f" of the package {distribution.name} {distribution.version}"
        return f"the entry point {self.point.name} = {self.point.value} ({self.point.group}){package}"

    def load(self) -> Any:
        """Imports the object; raises ValueError with the package, the entry point and the reason."""
        try:
            return self.point.load()
        except (Exception, SystemExit) as error:
            raise ValueError(
                f"{self.what} {self.point.name!r} cannot be loaded: {self} failed with {summary(error)}"
            ) from error


def read_plugins(group: str, what: str) -> Mapping[str, Sequence[Plugin]]:
    """The entry points of a group in all installed packages, by name, without importing any of them."""
    found: dict[str, dict[tuple[str, str], Plugin]] = {}
    for point in entry_points(group=group):
        package = "" if point.dist is None else point.dist.name
        found.setdefault(point.name, {}).setdefault((package, point.value), Plugin(point, what))
    return {name: tuple(plugins.values()) for name, plugins in found.items()}


def offered_modules() -> frozenset[str]:
    """Names of the modules that entry points of installed packages name."""
    return frozenset(point.module for group in GROUPS for point in entry_points(group=group))
