"""A registry: built-in objects, those that a program registers, and those of installed packages, by name."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from .locate import is_location, locate
from .plugins import Plugin, read_plugins
from .settings import name_of, nearest

T = TypeVar("T")
_NAME: Final = re.compile(r"[A-Za-z][\w.-]*")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a registry holds.

    Attributes:
        what: The word for errors: "solver".
        group: Group of entry points: "sadaflow.solvers".
        check: Makes an entry of an object; raises ValueError, which begins with the label that it is given, if the
            object cannot be one.
        reserved: Names that cannot be registered, with the reason.
        aliases: Other names of built-in entries, which cannot be registered either.
    """

    what: str
    group: str
    check: Callable[[str, Any], T]
    reserved: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def taken(self, name: str) -> str | None:
        """Why a name cannot be registered; None if it can."""
        if name in self.aliases:
            return f"another name of {self.aliases[name]!r}"
        return self.reserved.get(name)


class Registry(Mapping[str, T]):
    """Entries by name. It may be used by several threads at a time.

    Entry points are read when a name is first asked for, once, and imported when their own name is.

    Args:
        kind: What it holds.
        built_in: The entries of the library, which cannot be replaced.
    """

    def __init__(self, kind: Kind[T], built_in: Mapping[str, T]) -> None:
        self.kind = kind
        self.built_in: Mapping[str, T] = MappingProxyType(dict(built_in))
        self._added: dict[str, tuple[T, object]] = {}  # entry and what was registered, by name
        self._loaded: dict[str, tuple[T, object]] = {}  # the same of plugins, and of modules and files by location
        self._read: Mapping[str, Sequence[Plugin]] | None = None
        self._lock = threading.RLock()  # never held while a plugin is imported, which may register something itself

    def __getitem__(self, name: str) -> T:
        """The entry of a name; ValueError if it is ambiguous or its plugin is broken, KeyError if it is unknown."""
        plugins = self._plugins().get(name, ())
        own = "built into sadaflow" if name in self.built_in else self.kind.taken(name)
        if own is not None and plugins:
            raise ValueError(self._clash(name, f"{own} and that of {plugins[0]}"))
        if own is not None:
            return self.built_in[self.kind.aliases.get(name, name)]
        with self._lock:
            known = self._added.get(name) or self._loaded.get(name)
        if known is not None:
            return known[0]
        if not plugins:
            raise KeyError(name)
        if len(plugins) > 1:
            raise ValueError(self._clash(name, "that of " + " and that of ".join(map(str, plugins))))
        found = plugins[0].load()
        entry = self.kind.check(f"{self.kind.what} {name!r}, {plugins[0]},", found)
        with self._lock:
            return self._loaded.setdefault(name, (entry, found))[0]

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self._added or name in self._plugins()

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            added = dict.fromkeys([*self.built_in, *self._added])
        return iter(dict.fromkeys([*added, *sorted(self._plugins())]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"<{self.kind.what} names: {', '.join(self)}>"

    def register(self, name: str, made: object, *, replace: bool = False) -> None:
        """Adds an entry.

        Args:
            name: Letters, digits, ".", "-" and "_", beginning with a letter.
            made: What is registered.
            replace: Whether another entry that was registered under the name is replaced.

        Raises:
            ValueError: if the name is taken or malformed, or if `made` is not such an object.
        """
        what = self.kind.what
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{what} name {name!r} must be letters, digits, '.', '-' and '_', beginning with a letter")
        own = f"{name_of(made)} of {getattr(made, '__module__', '?')}"
        if (taken := "built into sadaflow" if name in self.built_in else self.kind.taken(name)) is not None:
            raise ValueError(self._clash(name, f"{taken} and cannot be that of {own}"))
        entry, plugins = self.kind.check(f"{what} {name!r}", made), self._plugins().get(name, ())
        with self._lock:
            known = self._added.get(name, (entry, made))[1]
            if not replace and known is not made:
                other = f"{name_of(known)} of {getattr(known, '__module__', '?')}"
                raise ValueError(f"{what} {name!r} is registered as {other}; replace=True puts {own} in its place")
            if not replace and name not in self._added and plugins and not _offers(plugins[0], made):
                raise ValueError(self._clash(name, f"that of {plugins[0]}; replace=True puts {own} in its place"))
            self._added[name] = entry, made

    def find(self, name: str) -> T:
        """The entry of a registered name, or of an object in a module or file (see `locate`).

        Raises:
            ValueError: if there is none, with the known names; or if it is ambiguous, or cannot be imported.
        """
        if is_location(name):
            found = locate(name, self.kind.what)
            entry = self.kind.check(f"{self.kind.what} {name!r}", found)
            with self._lock:
                self._loaded[name] = entry, found
            return entry
        try:
            return self[name]
        except KeyError:
            near = nearest(name, self)
            raise ValueError(
                f"unknown {self.kind.what} {name!r}{near}; known are {', '.join(self)}; one of your own is written "
                "module:Name"
            ) from None

    def foreign_modules(self) -> frozenset[str]:
        """Names of the modules of all entries in use that are not built in."""
        with self._lock:
            used = [*self._added.values(), *self._loaded.values()]
        return frozenset(str(getattr(made, "__module__", "")) for _, made in used) - {""}

    def reread(self) -> None:
        """Reads the entry points of installed packages again, as after an installation in the running process."""
        with self._lock:
            self._read = None
            self._loaded.clear()

    def _plugins(self) -> Mapping[str, Sequence[Plugin]]:
        with self._lock:
            if self._read is None:
                self._read = read_plugins(self.kind.group, self.kind.what)
            return self._read

    def _clash(self, name: str, reason: str) -> str:
        return f"the {self.kind.what} name {name!r} is {reason}: one of them needs another name"


def _offers(plugin: Plugin, made: object) -> bool:
    """Whether a plugin is the entry point of an object, judged by their names."""
    return plugin.point.value == f"{getattr(made, '__module__', '')}:{getattr(made, '__qualname__', '')}"
