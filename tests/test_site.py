"""The site: its menu has every page, and its reference documents every public name and argument."""

import importlib
import inspect
import re
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MENU = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
REFERENCE = {page: page.read_text("utf-8") for page in sorted((DOCS / "reference").glob("*.md"))}
PACKAGES = sorted(name for text in REFERENCE.values() for name in re.findall(r"^::: (\S+)$", text, re.M))
NAMES = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]


def documentation(named: Any) -> str:
    """Docstring of a function, or of a class and its bases within the library."""
    classes = named.__mro__ if inspect.isclass(named) else (named,)
    return "\n".join(owner.__doc__ or "" for owner in classes if owner.__module__.startswith("sadaflow"))


def parameters(named: Any) -> list[str]:
    """Names of the arguments of a function, or of making an object."""
    if inspect.isclass(named) and (issubclass(named, Enum) or getattr(named, "_is_protocol", False)):
        return []
    found = inspect.signature(named).parameters.values()
    return [one.name for one in found if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]


def test_the_menu_has_every_page_once() -> None:
    listed = re.findall(r"(?:^|[: -] )(\S+\.md)$", MENU, re.M)
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert sorted(listed) == sorted(pages)


def test_the_reference_is_of_all_packages_that_name_what_is_public() -> None:
    assert len(PACKAGES) == len(set(PACKAGES)) >= 11
    rooms = ("solvers", "accelerators", "checks", "models", "families")
    assert {"sadaflow", *(f"sadaflow.{room}" for room in rooms)} <= set(PACKAGES)


@pytest.mark.parametrize(("package", "name"), NAMES, ids=lambda one: one)
def test_a_public_name_is_documented_with_its_arguments(package: str, name: str) -> None:
    named = getattr(importlib.import_module(package), name)
    if not (inspect.isclass(named) or inspect.isfunction(named)):
        return
    text = documentation(named)
    assert (named.__doc__ or "").strip(), f"{package}.{name} has no docstring"
    missing = [one for one in parameters(named) if not re.search(rf"\b{one}\b", text)]
    assert missing == []
