"""Settings and results cannot be changed once made: every dataclass of solvers and accelerators is frozen."""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import is_dataclass
from types import ModuleType

import pytest

import sadaflow.accelerators
import sadaflow.solvers


def modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if ".checks" not in found.name:
            yield importlib.import_module(found.name)


@pytest.mark.parametrize("package", [sadaflow.solvers, sadaflow.accelerators], ids=lambda package: package.__name__)
def test_every_dataclass_is_frozen(package: ModuleType) -> None:
    values = {value for module in modules(package) for value in vars(module).values() if isinstance(value, type)}
    own = {one for one in values if is_dataclass(one) and one.__module__.startswith("sadaflow")}
    assert len(own) > 10
    assert [one.__name__ for one in own if not one.__dataclass_params__.frozen] == []
