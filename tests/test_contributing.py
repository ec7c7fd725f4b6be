"""Follows the numbered steps of CONTRIBUTING.md literally, in a copy of the repository."""

import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}
EXERCISES = [title for title in SECTIONS if title.startswith("Add ")]
CLI = "import sys; from sadaflow.cli import main; sys.exit(main())"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the repository that imports its own models and solvers; the checkpoints are a link."""
    root = tmp_path / "sadaflow"
    left_out = shutil.ignore_patterns("__pycache__", "checkpoints", "*.png")
    for name in ("sadaflow", "models", "solvers", "tests", "docs"):
        shutil.copytree(ROOT / name, root / name, ignore=left_out)
    for name in ("models", "solvers"):  # found before those of an editable install
        (root / "sadaflow" / name).symlink_to(root / name)
    (root / "sadaflow/checkpoints").symlink_to(ROOT / "sadaflow/checkpoints")
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def blocks(section: str) -> Iterator[tuple[str, str, str]]:
    """(language, file, text) of each fenced block; the file is named above it as "Write `file`" or "in `file`"."""
    file = ""
    for before, language, text in re.findall(r"(.*?)^ *```(\w+)\n(.*?)^ *```$", section, re.S | re.M):
        file = next(iter(re.findall(r"(?:Write|in) `([^`]+)`", before)), file)
        yield language, file, textwrap.dedent(text)


def edit(path: Path, difference: str) -> None:
    """Replaces the old lines of a diff, which must occur once in the file, by the new ones."""
    lines = difference.splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
    content = path.read_text("utf-8")
    assert content.count(old) == 1, f"{path.name} holds these lines {content.count(old)} times:\n{old}"
    path.write_text(content.replace(old, new), "utf-8")


def commands(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """(arguments, lines of its output) of each command of a console block; a command ends where its quotes close."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        lines = part.rstrip("\n").split("\n")
        end = next(end for end in range(1, len(lines) + 1) if "\n".join(lines[:end]).count('"') % 2 == 0)
        yield shlex.split("\n".join(lines[:end])), lines[end:]


def run(root: Path, arguments: list[str], expected: list[str]) -> None:
    program, *further = arguments
    assert program in (".venv/bin/python", ".venv/bin/sadaflow")
    start = [sys.executable] if program.endswith("python") else [sys.executable, "-c", CLI]
    done = subprocess.run([*start, *further], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    for line in expected:
        pattern = re.escape(line).replace(re.escape("..."), ".*")
        assert re.search(pattern, done.stdout), f"{arguments} does not print {line!r}:\n{done.stdout[:1000]}"


@pytest.mark.parametrize("title", EXERCISES)
def test_the_steps_of_an_exercise(title: str, repository: Path) -> None:
    done = {"changed": 0, "run": 0}
    for language, file, text in blocks(SECTIONS[title]):
        if language == "console":
            for arguments, expected in commands(text):
                run(repository, arguments, expected)
                done["run"] += 1
        elif language == "diff":
            edit(repository / file, text)
            done["changed"] += 1
        else:
            assert not (repository / file).exists()
            (repository / file).write_text(text, "utf-8")
            done["changed"] += 1
    assert done["changed"] and done["run"]


def test_there_is_an_exercise_for_everything_that_is_added() -> None:
    things = ("a solver", "an accelerator", "a pipeline argument", "a family", "a suite")
    assert EXERCISES == [f"Add {thing}" for thing in things]


def test_the_solver_is_one_file_of_thirty_lines() -> None:
    files = [text for language, _, text in blocks(SECTIONS["Add a solver"]) if language == "python"]
    assert len(files) == 1 and len(files[0].splitlines()) <= 30
