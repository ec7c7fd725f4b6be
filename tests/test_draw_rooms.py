"""The script that draws the rooms, on a small tree whose imports are known, and on this repository."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import rooms

SCRIPT = Path(rooms.__file__).with_name("draw_rooms.py")
PYPROJECT = '[tool.setuptools.package-dir]\n"house" = "house"\n"house.ground" = "ground"\n'
FILES = {
    "house/__init__.py": "from .roof.tiles import Tile\n",
    "house/door.py": "import house.ground\nfrom .ground import Stone, earth\n",
    "house/roof/__init__.py": "",
    "house/roof/tiles.py": (
        "from typing import TYPE_CHECKING\nfrom ..wall import Brick\nfrom house import door as entrance\n"
        "if TYPE_CHECKING:\n    from ..cellar import Wine\nelse:\n    import house.ground.earth\n\nclass Tile: ...\n"
    ),
    "house/wall.py": "from .door import Handle\nfrom . import Tile\nimport json\n\nclass Brick: ...\n",
    "house/cellar.py": (
        'def fetch(a, b, /, *c, d, **e):\n    """Fetches\n    bricks."""\n'
        "    from .wall import Brick\n    return Brick\n"
    ),
    "ground/__init__.py": "from .earth import Stone\n",
    "ground/earth.py": "class Stone:\n    def weight(self, scale):\n        return 1\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT, "utf-8")
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def test_modules_have_their_import_names(tree: Path) -> None:
    names = {"house", "house.door", "house.roof", "house.roof.tiles", "house.wall", "house.cellar"}
    assert rooms.read_modules(tree).keys() == names | {"house.ground", "house.ground.earth"}


def test_imports_lead_to_the_module_that_defines_a_name(tree: Path) -> None:
    found = {(item.source, item.target, item.lazy) for item in rooms.read_imports(rooms.read_modules(tree))}
    assert found == {
        ("house", "house.roof.tiles", False),
        ("house.door", "house.ground", False),
        ("house.door", "house.ground.earth", False),  # Stone through the package's __init__.py, and earth itself
        ("house.roof.tiles", "house.wall", False),
        ("house.roof.tiles", "house.door", False),
        ("house.roof.tiles", "house.ground.earth", False),
        ("house.wall", "house.door", False),
        ("house.wall", "house.roof.tiles", False),  # Tile through the root package
        ("house.cellar", "house.wall", True),
        ("house.ground", "house.ground.earth", False),
    }


def test_arrows_circles_and_floors(tree: Path) -> None:
    modules = rooms.read_modules(tree)
    imports = [item for item in rooms.read_imports(modules) if not item.lazy]
    arrows = rooms.arrows(imports, "house")
    assert arrows["house.door", "house.ground"] == 3 and arrows["house.roof", "house.wall"] == 1
    assert rooms.circles(arrows) == [["house.roof", "house.wall"]]
    assert len(rooms.back_arrows(arrows)) == 1
    floors = rooms.floors(rooms.rooms(modules, "house"), arrows)
    assert floors["house.ground"] == floors["house.cellar"] == 1 and floors["house.door"] == 2
    assert {floors["house.wall"], floors["house.roof"]} == {3, 4}
    assert rooms.rooms(modules, "house.ground") == ["house.ground.earth"]


def test_back_arrows_are_those_of_few_imports() -> None:
    arrows = Counter({("a", "b"): 9, ("b", "c"): 9, ("c", "a"): 1, ("d", "a"): 1})
    assert rooms.circles(arrows) == [["a", "b", "c"]]
    assert rooms.back_arrows(arrows) == [("c", "a")]
    assert rooms.floors("abcd", arrows) == {"a": 3, "b": 2, "c": 1, "d": 4}


def test_direct_arrows_leave_out_what_a_longer_way_implies() -> None:
    pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "c"), ("a", "d"), ("e", "d")]
    assert rooms.direct(pairs) == [("a", "b"), ("b", "c"), ("c", "d"), ("e", "d")]


def test_sizes_over_a_limit(tree: Path) -> None:
    modules = rooms.read_modules(tree).values()
    assert rooms.long_files(modules, 5) == [("house.roof.tiles", 9)]
    assert rooms.long_functions(modules, 2) == [("house.cellar.fetch", 3)]
    assert rooms.wide_functions(modules, 0) == [("house.cellar.fetch", 5), ("house.ground.earth.Stone.weight", 1)]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)


def test_the_script_counts_and_draws(tree: Path) -> None:
    done = run("--root", tree, "--inside", "house", "--list", "--out", tree / "rooms.svg")
    assert done.returncode == 0, done.stderr
    assert "5 rooms on 4 floors in house" in done.stdout
    assert "1 circles, 1 arrows back up" in done.stdout and "circle: roof, wall" in done.stdout
    texts = {element.text for element in ElementTree.parse(tree / "rooms.svg").iter() if element.tag.endswith("text")}
    assert {"door", "ground", "roof", "wall", "cellar"} <= texts
    run("--root", tree, "--inside", "house", "--out", tree / "rooms.mmd")
    lines = (tree / "rooms.mmd").read_text("utf-8").split("\n")
    assert lines[0] == "flowchart TD" and "    door --> ground" in lines and "    wall --> door" in lines
    assert "    roof --> ground" not in lines and sum("-.->" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("arguments", "named"), [(["--inside", "attic"], "'attic' has no rooms"), (["--out", "rooms.png"], ".png")]
)
def test_bad_arguments_are_named(tree: Path, arguments: list[str], named: str) -> None:
    done = run("--root", tree, "--inside", "house", *arguments)
    assert done.returncode == 2 and named in done.stderr and "Traceback" not in done.stderr


def test_this_repository_is_read() -> None:
    modules = rooms.read_modules(SCRIPT.parents[2])
    targets = {item.target for item in rooms.read_imports(modules) if item.source == "sadaflow"}
    assert {"sadaflow", "sadaflow.solvers.schedule", "sadaflow.models.seam"} <= modules.keys()
    assert targets and "sadaflow" not in targets
