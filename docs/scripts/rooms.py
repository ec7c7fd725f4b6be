"""Reads how the packages of this repository import each other.

The children of a package are called its rooms: its sub-packages, and the modules that lie directly in it. A room that
imports another one points at it with an arrow. Names that a package's `__init__.py` only hands on count as imported
from the module that defines them. Imports under `if TYPE_CHECKING` are left out; those inside functions are kept apart.
"""

import ast
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Arrow = tuple[str, str]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A Python file of a package.

    Args:
        name: its dotted import name.
        path: where it lies.
        lines: number of lines.
        tree: its syntax tree.
    """

    name: str
    path: Path
    lines: int
    tree: ast.Module

    @property
    def package(self) -> str:
        """The package that relative imports start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Import:
    """An import of one module by another; `lazy` if it runs inside a function."""

    source: str
    target: str
    line: int
    lazy: bool


def read_modules(root: Path) -> dict[str, Module]:
    """Modules by import name, in the folders that pyproject.toml's `package-dir` lists."""
    folders = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-dir"]
    modules = {}
    for package, folder in folders.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            text = path.read_text("utf-8")
            modules[name] = Module(name, path, len(text.splitlines()), ast.parse(text))
    return modules


def read_imports(modules: Mapping[str, Module]) -> list[Import]:
    """Every import of one of `modules` by another."""
    handed_on = {name: _handed_on(module) for name, module in modules.items() if module.path.name == "__init__.py"}
    found = []
    for module in modules.values():
        for node, lazy in _import_statements(module.tree):
            for base, name in _names(node, module):
                target = _origin(base, name, modules, handed_on)
                if target is not None and target != module.name:
                    found.append(Import(module.name, target, node.lineno, lazy))
    return found


def rooms(modules: Iterable[str], package: str) -> list[str]:
    """The rooms of `package`, sorted."""
    return sorted({room for name in modules if (room := room_of(name, package)) is not None})


def room_of(module: str, package: str) -> str | None:
    """The room of `package` in which `module` lies; None for the package, its `__main__`, and what lies elsewhere."""
    inside = module.removeprefix(package + ".")
    return None if inside in (module, "__main__") else f"{package}.{inside.partition('.')[0]}"


def arrows(imports: Iterable[Import], package: str) -> Counter[Arrow]:
    """Number of imports from each room of `package` into each other room of it."""
    pairs = ((room_of(item.source, package), room_of(item.target, package)) for item in imports)
    return Counter((a, b) for a, b in pairs if a is not None and b is not None and a != b)


def circles(arrows: Iterable[Arrow]) -> list[list[str]]:
    """Groups of rooms that reach each other, each sorted; no arrows may lead around any other group."""
    after = _reachable(arrows)
    groups = {tuple(sorted({a, *(b for b in after[a] if a in after[b])})) for a in after if a in after[a]}
    return [list(group) for group in sorted(groups)]


def back_arrows(arrows: Mapping[Arrow, int]) -> list[Arrow]:
    """Arrows whose removal opens every circle: few of them, and those with few imports.

    Rooms of a circle are put in an order from top to bottom by the greedy rule of Eades, Lin and Smyth (1993); arrows
    that run against it are returned.
    """
    back = []
    for circle in circles(arrows):
        inner = {pair: n for pair, n in arrows.items() if pair[0] in circle and pair[1] in circle}
        order = {room: position for position, room in enumerate(_top_down(circle, inner))}
        back += [(a, b) for a, b in sorted(inner) if order[a] > order[b]]
    return back


def floors(rooms: Iterable[str], arrows: Mapping[Arrow, int]) -> dict[str, int]:
    """The floor of each room: 1 for a room that imports no other, else one above the highest that it imports.

    Back arrows do not count.
    """
    below: dict[str, set[str]] = {room: set() for room in rooms}
    for a, b in arrows.keys() - set(back_arrows(arrows)):
        below[a].add(b)
    found: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in found:
            found[room] = 1 + max((floor(other) for other in below[room]), default=0)
        return found[room]

    return {room: floor(room) for room in below}


def direct(arrows: Iterable[Arrow]) -> list[Arrow]:
    """The arrows that no longer way implies, of a graph without circles: what a drawing shows."""
    pairs = set(arrows)
    after = _reachable(pairs)
    return sorted((a, b) for a, b in pairs if not any(b in after[c] for c in {y for x, y in pairs if x == a} - {b}))


def long_files(modules: Iterable[Module], limit: int) -> list[tuple[str, int]]:
    """(name, lines) of the modules of more than `limit` lines, the longest first."""
    return _over(limit, ((module.name, module.lines) for module in modules))


def long_functions(modules: Iterable[Module], limit: int) -> list[tuple[str, int]]:
    """(name, lines) of the functions of more than `limit` lines without the docstring, the longest first."""
    return _over(limit, ((name, _lines(node)) for name, node in _functions(modules)))


def wide_functions(modules: Iterable[Module], limit: int) -> list[tuple[str, int]]:
    """(name, parameters) of the functions of more than `limit` parameters without self and cls, the widest first."""
    return _over(limit, ((name, _parameters(node.args)) for name, node in _functions(modules)))


def _over(limit: int, sizes: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(((name, size) for name, size in sizes if size > limit), key=lambda found: (-found[1], found[0]))


def _functions(modules: Iterable[Module]) -> Iterator[tuple[str, Function]]:
    def inside(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function | ast.ClassDef):
                name = f"{prefix}.{child.name}"
                if isinstance(child, Function):
                    yield name, child
                yield from inside(child, name)
            else:
                yield from inside(child, prefix)

    for module in modules:
        yield from inside(module.tree, module.name)


def _lines(function: Function) -> int:
    text = function.body[0] if ast.get_docstring(function, clean=False) is not None else None
    docstring = 0 if text is None else (text.end_lineno or 0) - text.lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def _parameters(arguments: ast.arguments) -> int:
    named = [*arguments.posonlyargs, *arguments.args]
    bound = bool(named) and named[0].arg in ("self", "cls")
    starred = [arguments.vararg, arguments.kwarg]
    return len(named) - bound + len(arguments.kwonlyargs) + sum(item is not None for item in starred)


def _import_statements(node: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, lazy
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from _import_statements(ast.Module(child.orelse, []), lazy)
        else:
            yield from _import_statements(child, lazy or isinstance(child, Function | ast.Lambda))


def _names(node: ast.Import | ast.ImportFrom, module: Module) -> Iterator[tuple[str, str | None]]:
    """(module, name in it) of an import statement; the name is None where a module as a whole is imported."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, None) for alias in node.names)
        return
    package = module.package.split(".")
    base = package[: len(package) - node.level + 1] if node.level else []
    stem = ".".join([*base, *([node.module] if node.module else [])])
    yield from ((stem, alias.name) for alias in node.names)


def _handed_on(face: Module) -> dict[str, tuple[str, str]]:
    """Of a package's `__init__.py`: where it has each name from, as (module, name there)."""
    found = {}
    for node in face.tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias, (base, name) in zip(node.names, _names(node, face), strict=True):
                found[alias.asname or alias.name] = (base, str(name))
    return found


def _origin(
    base: str, name: str | None, modules: Mapping[str, Module], handed_on: Mapping[str, Mapping[str, tuple[str, str]]]
) -> str | None:
    """The module that an import leads to; None outside of `modules`."""
    if name is not None and f"{base}.{name}" in modules:
        return f"{base}.{name}"
    if name in handed_on.get(base, {}):
        further = handed_on[base][str(name)]
        if further != (base, name):
            return _origin(*further, modules, handed_on)
    return base if base in modules else None


def _reachable(arrows: Iterable[Arrow]) -> dict[str, set[str]]:
    after: dict[str, set[str]] = {}
    for a, b in arrows:
        after.setdefault(a, set()).add(b)
        after.setdefault(b, set())
    for middle in after:  # Warshall's closure
        for found in after.values():
            if middle in found:
                found |= after[middle]
    return after


def _top_down(rooms: Iterable[str], arrows: Mapping[Arrow, int]) -> list[str]:
    left, top, bottom = set(rooms), list[str](), list[str]()
    while left:
        out = {a: sum(n for (x, y), n in arrows.items() if x == a and y in left) for a in left}
        into = {b: sum(n for (x, y), n in arrows.items() if y == b and x in left) for b in left}
        sinks = sorted(room for room in left if not out[room])
        chosen = sinks[0] if sinks else max(sorted(left), key=lambda room: out[room] - into[room])
        left.remove(chosen)
        if sinks:
            bottom.insert(0, chosen)
        else:
            top.append(chosen)
    return top + bottom
