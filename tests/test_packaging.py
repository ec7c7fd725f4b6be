"""The wheel, the import names, what `import sadaflow` loads, and which third-party packages a room may import."""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("sadaflow", "models", "solvers")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGE_DIRS: dict[str, str] = PYPROJECT["tool"]["setuptools"]["package-dir"]


def python(code: str, executable: str | Path = sys.executable, cwd: Path | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the sdist, out of a copy, so that no stale build/ folder of the checkout takes part."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=built)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with only the wheel in it; the dependencies are borrowed by a path file."""
    where = tmp_path_factory.mktemp("clean")
    venv.create(where, with_pip=False, symlinks=os.name != "nt")
    executable = where / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(executable), *install], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    site = Path(python("import sysconfig; print(sysconfig.get_path('purelib'))", executable))
    # A line of a path file adds the folder without running the path files inside it: the checkout stays invisible.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return executable


@pytest.mark.packaging
def test_wheel_installs_one_top_level_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    version = PYPROJECT["project"]["version"]
    assert {name.split("/")[0] for name in names} == {"sadaflow", f"sadaflow-{version}.dist-info"}


@pytest.mark.packaging
def test_wheel_holds_every_source_file_and_checkpoint(wheel: Path) -> None:
    expected = {"sadaflow/py.typed"}
    for package, folder in PACKAGE_DIRS.items():
        expected |= {
            f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}"
            for path in (ROOT / folder).rglob("*.py")
        }
    checkpoints = ROOT / "sadaflow" / "checkpoints"
    expected |= {path.relative_to(ROOT).as_posix() for path in checkpoints.rglob("*") if path.is_file()}
    for ending in ("css", "jinja", "js", "toml"):
        expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "sadaflow").rglob(f"*.{ending}")}
    assert expected <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.packaging
def test_clean_environment_imports_the_wheel(clean_python: Path, tmp_path: Path) -> None:
    code = """
import importlib.util, json, sysconfig
import sadaflow, sadaflow.models, sadaflow.solvers
print(json.dumps({
    "site": sysconfig.get_path("purelib"),
    "files": [module.__file__ for module in (sadaflow, sadaflow.models, sadaflow.solvers)],
    "strays": [name for name in ("models", "solvers") if importlib.util.find_spec(name)],
}))
"""
    found = json.loads(python(code, clean_python, tmp_path))
    assert all(Path(file).is_relative_to(found["site"]) for file in found["files"])
    assert found["strays"] == []


@pytest.mark.packaging
def test_clean_environment_has_the_command(clean_python: Path) -> None:
    command = clean_python.with_name("sadaflow" + clean_python.suffix)
    done = subprocess.run([command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "generate" in done.stdout and "compare" in done.stdout


def test_every_package_is_listed() -> None:
    found = set()
    for package in ("sadaflow", "sadaflow.models", "sadaflow.solvers"):
        folder = ROOT / PACKAGE_DIRS[package]
        for init in folder.rglob("__init__.py"):
            found.add(".".join([package, *init.parent.relative_to(folder).parts]))
    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == sorted(found)


def test_every_module_lies_in_a_package() -> None:
    """A folder with modules but no __init__.py would be left out of the wheel without a word."""
    folders = {path.parent for name in SOURCES for path in (ROOT / name).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_import_stays_light(tmp_path: Path) -> None:
    heavy = ("transformers", "diffusers", "torchvision", "PIL", "matplotlib", "typer", "scipy", "httpx", "httpx2")
    # torch and huggingface-hub may bring some of these themselves; only what our import adds to theirs counts.
    code = f"""
import sys, torch, huggingface_hub, einops, safetensors
before = set(sys.modules)
import sadaflow, sadaflow.models, sadaflow.solvers
print(*sorted({{name.split(".")[0] for name in set(sys.modules) - before}} & set({heavy!r})))
"""
    assert python(code, cwd=tmp_path) == ""


@pytest.mark.parametrize("folder", ["models", "solvers"])
def test_top_level_import_is_refused(folder: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\ntry:\n import {folder}\nexcept ImportError as e: print(e)"
    assert f"sadaflow.{folder}" in python(code)


def imports(path: Path, package: str) -> Iterator[str]:
    """Absolute names of everything a module imports, at any depth of its source."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("package", "third_party"),
    [("sadaflow.models", {"torch", "einops"}), ("sadaflow.solvers", {"torch", "numpy", "scipy", "tqdm"})],
)
def test_arrows_go_one_way(package: str, third_party: set[str]) -> None:
    allowed = set(sys.stdlib_module_names) | third_party
    wrong = []
    for path in sorted((ROOT / PACKAGE_DIRS[package]).rglob("*.py")):
        inner = path.parent.relative_to(ROOT / PACKAGE_DIRS[package]).parts
        for name in imports(path, ".".join([package, *inner])):
            inside = name == package or name.startswith(package + ".")
            if not inside and name.split(".")[0] not in allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []
