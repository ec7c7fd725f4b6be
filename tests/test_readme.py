"""The README: its programs run as printed, and it reads the same outside of the repository."""

import re
from pathlib import Path

import pytest
from PIL import Image

from sadaflow.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
FIRST = TEXT.partition("\n# More\n")[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.S | re.M)


def test_programs_run_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102
    with Image.open("apple.png") as picture:
        assert picture.size == (64, 64)


def test_commands_exist() -> None:
    used = re.findall(r"^\$ sadaflow (\w+)", "\n".join(blocks("console")), re.M)
    assert used and set(used) <= {name.split()[0] for name in COMMANDS}


def test_links_and_pictures_are_absolute() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", TEXT) + re.findall(r"(?:src|srcset)=\"([^\"]+)\"", TEXT)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []


def test_what_comes_before_more_is_two_screens() -> None:
    lines = sum(-(-len(line) // 110) for line in FIRST.splitlines() if line.strip())
    assert lines <= 90
    assert FIRST.index("hero-light.png") < FIRST.index("make demo") < FIRST.index("make test")
