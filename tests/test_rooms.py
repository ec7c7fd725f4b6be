"""Which room may import which, and how long a test file may be.

A new arrow is a decision: write it into the table, or put the import elsewhere.
"""

from pathlib import Path

import pytest
import rooms

MODULES = rooms.read_modules(Path(__file__).resolve().parents[1])
IMPORTS = rooms.read_imports(MODULES)

# Room -> rooms that it may import, from the ground up; imports inside functions count as well. Every room stands below
# those that import it, so that the tables hold no circle.
HOUSE = {
    "_checkout": "",  # lets a checkout be imported without installation
    "device": "",
    "display": "",
    "files": "",
    "explore": "display files",
    "models": "",
    "solvers": "",
    "accelerators": "device models solvers",
    "loading": "models solvers",
    "metrics": "files",
    "placement": "loading models",
    "guidance": "device solvers",
    "sampling": "accelerators device display explore files guidance models solvers",
    "checks": "accelerators device models sampling solvers",
    "families": "accelerators files guidance loading models sampling solvers",
    "parallel": "accelerators models sampling",
    "compare": "accelerators display explore families files metrics sampling solvers",
    "pipeline": (
        "accelerators device display families files guidance loading models parallel placement sampling solvers"
    ),
    "training": "families files loading metrics models",
    "generation": "families files guidance pipeline sampling solvers",
    "bench": (
        "accelerators compare device display families files generation loading metrics models "
        "pipeline placement sampling solvers"
    ),
    "cli": (
        "accelerators bench checks compare families files generation guidance loading pipeline placement sampling "
        "solvers"
    ),
}
ACCELERATORS = {
    "base": "",
    "forwarding": "base",
    "fitting": "base",
    "history": "",
    "replay": "",
    "settings": "",
    "steps": "",
    "auto": "base fitting history replay settings",
    "predictors": "auto history",
    "caching": "base fitting forwarding history predictors settings steps",
    "combined": "base fitting forwarding",
    "skipping": "base fitting history predictors replay settings steps",
    "sada": "base caching fitting history settings",
    "registry": "auto base caching combined sada skipping",
    "default": "registry",
}
BENCH = {
    "suite": "",
    "run": "suite",
    "reporting": "run suite",
    "speed": "run",
    "peers": "run speed",
    "command": "reporting run speed suite",
    "gpu": "run speed",
}
MODELS = {
    "config": "",
    "json_config": "config",
    "conv": "",
    "embeddings": "",
    "norm": "",
    "original_layout": "",
    "rope": "",
    "seam": "",
    "tiling": "",
    "attention": "conv seam",
    "compiled": "seam",
    "resnet": "conv",
    "autoencoder": "attention config resnet tiling",
    "causal_autoencoder": "attention autoencoder config original_layout",
    "streams": "attention json_config norm original_layout rope seam",
    "unet": "attention config conv embeddings resnet seam",
    "controlnet": "config conv embeddings seam streams unet",
    "flux": "config controlnet embeddings original_layout seam streams",
    "chroma": "config embeddings original_layout seam streams",
    "flux2": "autoencoder config embeddings json_config norm original_layout rope seam streams",
    "sd3": "config embeddings json_config original_layout seam streams",
    "qwen_image": "config embeddings norm rope seam streams",
    "z_image": "config embeddings json_config norm original_layout rope seam streams",
    "tiny_autoencoder": "autoencoder config json_config",
    "dit": "attention config embeddings json_config seam streams",
    "wan": "attention config embeddings json_config norm rope seam streams",
    "wrapped": "seam",
}
TRAINING = {
    "arguments": "",
    "data": "",
    "loops": "data",
    "export": "data loops",
    "tiny_sd": "arguments data export loops",
    "tiny_flux": "arguments data export loops tiny_sd",
    "tiny_controlnet": "arguments data export loops tiny_flux tiny_sd",
    "tiny_dit": "arguments data export loops",
}
TABLES = {
    "sadaflow": HOUSE,
    "sadaflow.accelerators": ACCELERATORS,
    "sadaflow.bench": BENCH,
    "sadaflow.models": MODELS,
    "sadaflow.training": TRAINING,
}
PACKAGES = sorted({room for name in MODULES if (room := name.rpartition(".")[0]) in MODULES})


def arrows(package: str) -> set[tuple[str, str]]:
    short = len(package) + 1
    return {(a[short:], b[short:]) for a, b in rooms.arrows(IMPORTS, package)}


@pytest.mark.parametrize("package", TABLES)
def test_rooms_import_what_their_table_allows(package: str) -> None:
    table = TABLES[package]
    assert {room[len(package) + 1 :] for room in rooms.rooms(MODULES, package)} == table.keys()
    allowed = {(room, other) for room, others in table.items() for other in others.split()}
    found = arrows(package)
    assert found - allowed == set(), "not in the table"
    assert allowed - found == set(), "in the table, but nothing imports so any more"


@pytest.mark.parametrize("package", TABLES)
def test_every_room_of_a_table_stands_below_those_that_import_it(package: str) -> None:
    order = list(TABLES[package])
    for room, others in TABLES[package].items():
        assert all(order.index(other) < order.index(room) for other in others.split()), room


@pytest.mark.parametrize("package", PACKAGES)
def test_there_are_no_circles(package: str) -> None:
    assert rooms.circles(rooms.arrows(IMPORTS, package)) == []


def test_models_and_solvers_import_nothing_of_the_house() -> None:
    strays = {
        (item.source, item.target)
        for item in IMPORTS
        for package in ("sadaflow.models", "sadaflow.solvers")
        if f"{item.source}.".startswith(package + ".") and not f"{item.target}.".startswith(package + ".")
    }
    assert strays == set()


def test_the_house_stays_small() -> None:
    """The numbers of rooms and floors that a reader can hold in mind."""
    found = rooms.rooms(MODULES, "sadaflow")
    assert len(found) <= 22
    assert max(rooms.floors(found, rooms.arrows(IMPORTS, "sadaflow")).values()) <= 8


def test_only_the_package_itself_lies_flat_in_sadaflow() -> None:
    """A module in no room would be a room of one file; `_checkout` must lie beside models/ and solvers/.

    `__main__` starts the command line.
    """
    folder = Path(rooms.__file__).resolve().parents[2] / "sadaflow"
    assert sorted(path.name for path in folder.glob("*.py")) == ["__init__.py", "__main__.py", "_checkout.py"]


def test_no_test_file_is_longer_than_300_lines() -> None:
    """A longer one holds more than one idea: split it, and put what both parts use into tests/support."""
    tests = Path(__file__).parent
    lines = {str(path.relative_to(tests)): len(path.read_text("utf-8").splitlines()) for path in tests.rglob("*.py")}
    assert len(lines) > 100
    assert {name: count for name, count in lines.items() if count > 300} == {}
