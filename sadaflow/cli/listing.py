"""The command `list`: what there is to name, a line each."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from inspect import getdoc
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer

from sadaflow.solvers.names.registry import Registry
from sadaflow.solvers.names.settings import name_of, nearest

from ..loading.embedded import EMBEDDED, checkpoint_files, embedded_names
from .flags import Debug
from .terminal import say

Rows = Iterable[tuple[str, ...]]


@dataclass(frozen=True)
class ListOptions:
    """The flags in the order in which --help shows them."""

    what: Annotated[
        str,
        typer.Argument(metavar="WHAT", help="solvers, accelerators, guidance, models, families or suites."),
    ]
    debug: Debug = False


def run(options: ListOptions) -> None:
    """List what can be named: solvers, accelerators, guidance rules, embedded models, families of models, suites.

    Names that installed packages add are listed too.
    """
    if options.what not in LISTS:
        raise ValueError(f"unknown list {options.what!r}{nearest(options.what, LISTS)}; known: {', '.join(LISTS)}")
    rows = list(LISTS[options.what]())
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    say("\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows))


def _solvers() -> Rows:
    from sadaflow.solvers.registry import REGISTRY

    for name, entry in _entries(REGISTRY):
        if isinstance(entry, str):
            yield name, entry
        else:
            options = ", ".join(f"{key}={value}" for key, value in entry.options.items())
            yield name, f"{_summary(entry.solver)}{f' [{options}]' if options else ''}"


def _accelerators() -> Rows:
    from ..accelerators.registry import REGISTRY

    return ((name, _summary(entry)) for name, entry in _entries(REGISTRY))


def _guidance() -> Rows:
    from ..guidance.registry import REGISTRY

    return ((name, _summary(entry)) for name, entry in _entries(REGISTRY))


def _families() -> Rows:
    from ..families import REGISTRY

    return ((name, _summary(entry)) for name, entry in _entries(REGISTRY))


def _models() -> Rows:
    for name in embedded_names():
        files = checkpoint_files(EMBEDDED / name)
        text = (EMBEDDED / name / "README.md").read_text("utf-8").partition(f"# {name}\n")[2]
        yield name, f"{sum(path.stat().st_size for path in files.values()) / 1e6:.0f} MB", _sentence(text)


def _suites() -> Rows:
    for file in sorted((resources.files("sadaflow.bench") / "suites").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            comment = [line.removeprefix("#") for line in file.read_text("utf-8").splitlines() if line.startswith("#")]
            yield file.name.removesuffix(".toml"), _sentence("\n".join(comment))


LISTS: Final[Mapping[str, Callable[[], Rows]]] = MappingProxyType(
    {
        "solvers": _solvers,
        "accelerators": _accelerators,
        "guidance": _guidance,
        "models": _models,
        "families": _families,
        "suites": _suites,
    }
)


def _entries(registry: Registry[Any]) -> Iterable[tuple[str, Any]]:
    """Names with their entries; with the reason, for an installed package that cannot be imported."""
    for name in registry:
        try:
            yield name, registry[name]
        except ValueError as error:
            yield name, f"cannot be used: {error}"


def _summary(entry: Any) -> str:
    """The first sentence of the docstring of a class or function."""
    if isinstance(entry, str):
        return entry
    inner = getattr(entry, "func", entry)
    return _sentence(getdoc(inner) or "") or name_of(entry)


def _sentence(text: str) -> str:
    """The first sentence of a text, on one line."""
    first = " ".join(text.strip().partition("\n\n")[0].split())
    return re.split(r"(?<!\bal)\.(?=\s|$)", first)[0] + "." if first else ""
