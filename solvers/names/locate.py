"""Finds the object that `module:Name` or `folder/file.py:Name` names."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from .settings import nearest


def is_location(name: str) -> bool:
    """Whether a name is that of an object in a module or file."""
    return ":" in name


def locate(text: str, what: str) -> Any:
    """Imports the module or file, and returns the object.

    Args:
        text: `module.path:Name`, `file.py:Name`, or `module:Outer.Inner`.
        what: What is named, for errors: "solver".

    Raises:
        ValueError: if there is no such module, file or name, or if the module cannot be imported.
    """
    source, _, name = text.rpartition(":")
    if not source or not name or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{what} {text!r} must be written module:Name, or ./file.py:Name")
    module = _run_file(source, text, what) if source.endswith(".py") else _import(source, text, what)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            own = [key for key in vars(found) if not key.startswith("_")] if hasattr(found, "__dict__") else []
            raise ValueError(f"{what} {text!r}: {source} has no {part!r}{nearest(part, own)}")
        found = getattr(found, part)
    return found


def summary(error: BaseException) -> str:
    """The class and the first line of the message of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _import(name: str, text: str, what: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{what} {text!r}: {name!r} is not the name of a module; a file is written ./file.py:Name")
    importlib.invalidate_caches()  # the module may have been written a moment ago
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{what} {text!r}: there is no module {error.name!r} in the current folder or among the installed "
                "packages"
            ) from error
        raise _failed(name, text, what, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, text, what, error) from error


def _run_file(source: str, text: str, what: str) -> ModuleType:
    """Runs a Python file once. The module is named by its path, from the current folder if the file lies in it."""
    path = Path(source).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"{what} {text!r}: there is no file {source!r}")
    inside = path.is_relative_to(Path.cwd())
    name = f"./{path.relative_to(Path.cwd()).as_posix()}" if inside else os.fspath(path)
    module = sys.modules.get(name)
    if module is not None and getattr(module, "__file__", None) == os.fspath(path):
        return module
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{what} {text!r}: {source!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look it up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(source, text, what, error) from error
    return module


def _failed(source: str, text: str, what: str, error: BaseException) -> ValueError:
    return ValueError(f"{what} {text!r}: {source} cannot be imported: {summary(error)}")
