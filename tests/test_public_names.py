"""Public names of `sadaflow` are imported when they are used, and are the ones that a type checker sees."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sadaflow

ROOT = Path(__file__).resolve().parents[1]


def test_names_at_run_time_are_those_of_the_type_checker() -> None:
    tree = ast.parse((ROOT / "sadaflow" / "__init__.py").read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)
                 and node.test.id == "TYPE_CHECKING")  # fmt: skip
    typed = {node.module: tuple(alias.name for alias in node.names)
             for node in block.body if isinstance(node, ast.ImportFrom)}  # fmt: skip
    assert typed == sadaflow._MODULES
    assert sorted([*sum(typed.values(), ()), "__version__"]) == sorted(sadaflow.__all__)


def test_every_public_name_is_found_and_listed() -> None:
    for name in sadaflow.__all__:
        assert getattr(sadaflow, name) is not None
    assert {*sadaflow.__all__, "solvers", "models"} <= set(dir(sadaflow))
    names: dict[str, object] = {}
    exec("from sadaflow import *", names)  # noqa: S102
    assert names.keys() >= set(sadaflow.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'sadaflow' has no attribute 'Pipelin'"):
        sadaflow.Pipelin  # noqa: B018


def run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("argument", ["--version", "-h"])
def test_version_and_help_do_not_wait_for_torch(argument: str) -> None:
    printed = run(
        f"import sys; from sadaflow.cli import main; print(main([{argument!r}])); print('torch' in sys.modules)"
    )
    assert printed.split()[-2:] == ["0", "False"]
    assert ("generate" in printed) == (argument == "-h") and ("sadaflow 0." in printed) == (argument == "--version")


def test_packages_are_attributes_after_a_plain_import() -> None:
    assert run("import sadaflow; print(sadaflow.solvers.make_solver.__name__, sadaflow.pipeline.__name__)").split() == [
        "make_solver",
        "sadaflow.pipeline",
    ]


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)
    changed = re.search(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert cited is not None and changed is not None
    assert sadaflow.__version__ == project == cited[1] == changed[1]
