"""The GPU benchmark, run on a CPU: from a bare checkout, part by part, also if a part fails."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sadaflow.bench.gpu import theirs
from sadaflow.bench.gpu.__main__ import main
from sadaflow.bench.gpu.book import Book
from sadaflow.bench.gpu.cards import card_for
from sadaflow.bench.gpu.limits import Work
from sadaflow.bench.gpu.networks import build
from sadaflow.bench.gpu.parts import PARTS
from sadaflow.bench.gpu.records import Part, Record, Setup, check, row
from sadaflow.bench.gpu.runner import run_parts
from sadaflow.models import call_through

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
BARE = """
import runpy, sys
sys.modules.update(dict.fromkeys(["typer", "matplotlib"]))  # importing these raises
runpy.run_module("sadaflow.bench.gpu", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], str, float]:
    """Records, page and processor seconds of the rehearsal, run in a copy of the checkout that nothing is installed
    from, by a Python that sees the dependencies alone: -S leaves out path files, so editable installs are not seen."""
    root, out = tmp_path_factory.mktemp("bare"), tmp_path_factory.mktemp("out") / "gpu"
    for name in ("sadaflow", "models", "solvers"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests" / "device").mkdir(parents=True)
    for name in ("pyproject.toml", "tests/conftest.py", "tests/device/test_cuda.py"):
        shutil.copy(ROOT / name, root / name)
    environment = {**os.environ, "PYTHONPATH": str(Path(torch.__file__).parent.parent)}
    before = _processor_seconds()
    command = [sys.executable, "-S", "-c", BARE, "--out", str(out), "--small", "--minutes", "4"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = (out / "gpu.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines], (out / "gpu.md").read_text("utf-8"), _processor_seconds() - before


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
def test_the_rehearsal_runs_every_part_in_a_minute(rehearsal: tuple[list[Record], str, float]) -> None:
    records, page, seconds = rehearsal
    assert {one["part"]: one["ended"] for one in records if "ended" in one} == {part.name: "done" for part in PARTS}
    assert [one for one in records if "failed" in one] == []
    checks = [one for one in records if "check" in one]
    assert len(checks) > 15 and all(one["passed"] for one in checks)
    assert {one["part"] for one in records if "table" in one} >= {part.name for part in PARTS} - {
        "pictures",
        "graph tests",
    }
    assert "No number below says anything about a GPU" in page and "Nothing that was looked at" in page
    assert seconds < 100  # of processors; 67 were measured on a busy machine


@pytest.mark.slow
def test_the_rehearsal_compares_with_diffusers(rehearsal: tuple[list[Record], str, float]) -> None:
    records, _, _ = rehearsal
    goals = {one["goal"]: one["value"] for one in records if "goal" in one}
    assert sum("of Diffusers' eager time" in name for name in goals) == 12
    assert all(value > 0 for value in goals.values())


def _setup(seconds: float, small: bool = True) -> Setup:
    return Setup(CPU, small, time.monotonic() + seconds, ROOT)


def _found(book: Book) -> dict[str, list[Record]]:
    names = dict.fromkeys(record["part"] for record in book.records)
    return {name: [record for record in book.records if record["part"] == name] for name in names}


def _fine(setup: Setup) -> Iterator[Record]:
    yield row("numbers", left=setup.left(), seen=len(setup.earlier))


def _raises(setup: Setup) -> Iterator[Record]:
    yield check("one before", 0.0, 1.0)
    raise RuntimeError("the message\nof the failure")


def _hangs(setup: Setup) -> Iterator[Record]:
    yield row("numbers", before="the hang")
    subprocess.run(["sleep", "60"])


def _dies(setup: Setup) -> Iterator[Record]:
    os.kill(os.getpid(), signal.SIGSEGV)
    yield row("never", reached=True)


def _parts(*runs: Any) -> Sequence[Part]:
    return [Part(f"{number} {run.__name__}", "a", run.__name__, 1, 1, run) for number, run in enumerate(runs)]


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_whatever_a_part_does_the_rest_goes_on(tmp_path: Path) -> None:
    book = Book(tmp_path / "out")
    began = time.monotonic()
    run_parts(_parts(_raises, _hangs, _dies, _fine), _setup(12), book, "fork")
    assert time.monotonic() - began < 10
    raised, hung, died, fine = _found(book).values()
    failed = next(one for one in raised if "failed" in one)
    assert (failed["type"], failed["message"]) == ("RuntimeError", "the message of the failure")
    assert "test_gpu.py:" in failed["where"] and raised[1]["check"] == "one before"
    assert hung[1]["columns"] == {"before": "the hang"} and hung[-1]["ended"] == "timed out"
    assert "_hangs" in hung[-1]["note"] or "subprocess" in hung[-1]["note"]
    assert died[-1]["ended"] == f"died of signal {int(signal.SIGSEGV)}"
    assert fine[-1]["ended"] == "done" and fine[1]["columns"]["seen"] > 6
    written = [json.loads(line) for line in (tmp_path / "out/gpu.jsonl").read_text().splitlines()]
    page = (tmp_path / "out/gpu.md").read_text()
    assert written == book.records and "the message of the failure" in page and "timed out" in page


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_the_time_of_all_parts_is_kept(tmp_path: Path) -> None:
    book = Book(tmp_path / "out")
    began = time.monotonic()
    run_parts(_parts(_hangs, _hangs, _hangs), _setup(3), book, "fork")
    assert time.monotonic() - began < 6
    assert [one["ended"] for one in book.records if "ended" in one] == ["timed out"] * 3


def test_parts_also_run_in_processes_that_are_not_forked(tmp_path: Path) -> None:
    book = Book(tmp_path / "out")
    run_parts([PARTS[0]], replace(_setup(120)), book, "spawn")
    assert book.records[-1]["ended"] == "done" and any("table" in one for one in book.records)


def test_a_folder_of_results_is_not_written_over(tmp_path: Path) -> None:
    book = Book(tmp_path / "out")
    book.write("part", check("not a number", float("nan"), 1.0))
    assert json.loads((tmp_path / "out/gpu.jsonl").read_text())["error"] == "nan"
    assert not book.records[0]["passed"] and "**not a number**: nan" in (tmp_path / "out/gpu.md").read_text()
    with pytest.raises(FileExistsError, match=r"gpu\.jsonl exists; name another folder"):
        Book(tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--small", "--part", "spede"], "unknown --part 'spede'; known: machine, pictures"),
        (["--small", "--minutes", "0"], "--minutes must be a number above 0, got 0.0"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], message: str, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--out", str(tmp_path / "out"), *arguments])
    assert raised.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_make_runs_the_module() -> None:
    command = ["make", "--no-print-directory", "-n", "gpu", "SMALL=1", "GPU_OUT=there"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.replace("\\\n", "").split()[1:] == ["-m", "sadaflow.bench.gpu", "--out", "there", "--small"]


def test_a_wheel_of_diffusers_in_the_checkout_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theirs.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert "no diffusers-*.whl" in str(theirs.make_importable(tmp_path))
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels/diffusers-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("diffusers/__init__.py", "")
    assert theirs.make_importable(tmp_path) is None
    assert (Path(sys.path[-1]) / "diffusers/__init__.py").is_file()
    shutil.rmtree(sys.path[-1])


@pytest.mark.parametrize("name", ["sd21", "flux"])
def test_operations_are_those_that_torch_counts(name: str) -> None:
    network = build(name, CPU, small=True)
    denoise, x = network.denoiser(network.solver(4), 1), network.noise(1)
    assert card_for("NVIDIA A100-SXM4-80GB") is not None
    with Work(card_for("NVIDIA H100 80GB HBM3") or pytest.fail()) as work:
        denoise.evaluate(x, 1, range(1), call_through)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        denoise.evaluate(x, 1, range(1), call_through)
    assert work.flops == counter.get_total_flops() > 0
    assert work.seconds >= work.flops / work.card.flops


def test_bytes_and_the_limit_of_a_matrix_product() -> None:
    card = card_for("NVIDIA H200") or pytest.fail()
    left, right = torch.ones(64, 32), torch.ones(32, 16)
    with Work(card) as work:
        (left @ right).t()
    moved = 4 * (64 * 32 + 32 * 16 + 64 * 16)
    assert (work.flops, work.bytes) == (2 * 64 * 32 * 16, moved)
    assert work.seconds == max(work.flops / 989e12, moved / 4.8e12)


def test_cards_are_known_by_whole_words() -> None:
    cards = {name: card_for(f"NVIDIA {name}") for name in ("L40S", "L4", "A10")}
    assert [card.flops for card in cards.values() if card] == [362e12, 121e12, 125e12]
    assert card_for("NVIDIA L40") is None
    assert card_for("NVIDIA A100-SXM4-40GB") != card_for("NVIDIA A100-SXM4-80GB")


def test_the_checkout_fits_beside_a_wheel() -> None:
    """Machines that a checkout is sent to take 64 MiB; 8 are for wheels."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert sum(file.stat().st_size for file in files if file.is_file()) < 56 * 2**20
