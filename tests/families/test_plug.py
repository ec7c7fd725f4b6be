"""A family is one folder in models/, one file in families/ and one line in the registry: nothing else names it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sadaflow.families

ROOT = Path(__file__).resolve().parents[2]
NAMES = {  # folder in models/ -> what its classes and modules are called
    "chroma": r"[Cc]hroma",
    "flux2": r"[Ff]lux2",
    "qwen_image": r"qwen_image|QwenImage",
    "sd3": r"\bsd3\b|SD3|StableDiffusion3",
    "wan": r"\bwan\b|\bwan_|Wan[A-Z]|\bWan\b",
    "z_image": r"z_image|ZImage",
}


def _code(path: Path) -> Iterator[str]:
    """The lines of a file that are neither text in quotes nor comments."""
    for line in re.sub(r'"""(?:.|\n)*?"""', "", path.read_text("utf-8")).splitlines():
        yield re.sub(r'"[^"]*"|#.*', "", line)


@pytest.mark.parametrize("folder", NAMES)
def test_nothing_but_the_registry_names_a_family(folder: str) -> None:
    own = {*(ROOT / "sadaflow/families").glob(f"{folder}*.py"), Path(sadaflow.families.__file__)}
    files = (path for room in ("sadaflow", "models", "solvers") for path in (ROOT / room).rglob("*.py"))
    naming = {
        str(path.relative_to(ROOT))
        for path in files
        if path not in own and folder not in path.parts and any(re.search(NAMES[folder], line) for line in _code(path))
    }
    assert naming == set()


@pytest.mark.parametrize("folder", NAMES)
def test_every_family_has_its_folder_and_its_file(folder: str) -> None:
    assert (ROOT / "models" / folder / "network.py").is_file()
    assert (ROOT / "sadaflow/families" / f"{folder}.py").is_file()
    assert any(re.search(NAMES[folder], family.__name__) for family in sadaflow.families.FAMILIES.values())


@pytest.mark.parametrize("folder", NAMES)
def test_the_page_says_what_a_family_took(folder: str) -> None:
    page = (ROOT / "docs" / "your-family.md").read_text("utf-8")
    row = re.search(rf"^\| `{folder}`: [^|]* \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert row is not None
    files = (ROOT / "models" / folder).glob("*.py"), (ROOT / "sadaflow/families").glob(f"{folder}*.py")
    counts = [sum(len(path.read_text("utf-8").splitlines()) for path in found) for found in files]
    assert all(abs(count - int(stated)) <= 0.1 * count for count, stated in zip(counts, row.groups(), strict=True))
