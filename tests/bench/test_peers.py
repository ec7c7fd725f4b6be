"""`bench peers`: DeepCache's own package beside ours, methods that cannot be measured, and the table."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sadaflow.accelerators import make_accelerator
from sadaflow.bench.peers import Peers, run_peers
from sadaflow.bench.peers.command import markdown
from sadaflow.bench.peers.measure import PeerBench, Row
from sadaflow.bench.peers.methods import Methods, Peer, transformer_methods, unet_methods
from sadaflow.bench.speed.folders import checkpoint_folder
from sadaflow.bench.speed.sides import OURS, THEIRS, Ours
from sadaflow.bench.speed.task import task_for
from support.speed import CPU, FLOAT, ignore

DEEPCACHE = unet_methods().theirs[1]  # interval 3


def bench_of(model: str, steps: int, solver: str, scratch: Path) -> PeerBench:
    folder = checkpoint_folder(model, scratch / "cache", str(scratch), FLOAT)
    task = task_for(Ours(folder, FLOAT, CPU).pipe, 1, steps, None, None, solver)
    return PeerBench(folder, task, FLOAT, CPU)


def refuse(pipe: Any) -> None:
    raise RuntimeError("this network\nhas no such blocks")


def test_deepcaches_own_package_agrees_with_ours_and_what_fails_has_a_note(tmp_path: Path) -> None:
    pytest.importorskip("DeepCache")
    absent, failing = Peer("absent", "no-such-package", refuse), Peer("failing", "diffusers", refuse)
    ours = {name: make_accelerator(name) for name in ("deepcache interval=3", "auto budget=1")}
    bench = bench_of("tiny-sd", 6, "dpmpp2m", tmp_path)
    theirs, missing, failed, own, unfit = bench.measure(Methods([DEEPCACHE, absent, failing], ours), 1, ignore)
    assert theirs.note is None and theirs.package == "DeepCache " + (DEEPCACHE.version or "")
    assert theirs.psnr == pytest.approx(own.psnr, abs=0.01) and 10 < theirs.psnr[0] < 80
    # Both compute 2 of 6 steps in full; the package also computes the first resnet's shortcut of the blocks it enters.
    assert theirs.cost == pytest.approx(own.cost, abs=0.02) and 1 / 3 < theirs.cost < 0.7
    assert theirs.seconds is not None and own.seconds is not None and min(theirs.seconds, own.seconds) > 0
    assert missing.note == "needs no-such-package: pip install 'sadaflow[peers]'"
    assert failed.note == "RuntimeError: this network" and failed.seconds is None
    assert unfit.note is not None and "auto" in unfit.note and unfit.side == OURS
    assert bench.difference() < 1e-4


@pytest.mark.slow
def test_every_peer_of_transformers_runs_and_does_less(tmp_path: Path) -> None:
    pytest.importorskip("cache_dit")
    steps = 12
    methods = replace(transformer_methods(steps, [1.0] * steps), ours={})
    for row in bench_of("tiny-flux", steps, "euler", tmp_path).measure(methods, 1, ignore):
        assert row.note is None, row
        assert row.cost is not None and 0.2 < row.cost <= 1 and row.psnr[0] > 10


def test_the_table_shows_means_worst_and_notes() -> None:
    rows = [
        Row(THEIRS, "X", "x 1.0", psnr=(30.0, 40.0), cost=0.5, seconds=0.75),
        Row(THEIRS, "Y", "y not installed", note="needs y"),
        Row(OURS, "auto", psnr=(20.0,), cost=0.25, seconds=0.5),
    ]
    about = dict.fromkeys(("sadaflow", "torch", "diffusers", "hardware", "device", "dtype", "threads", "source"), "?")
    settings = {"model": "m", "steps": 5, "solver": None, "guidance": 2.0, "prompts": ["a"], "rounds": 1}
    lines = markdown({"environment": about, "settings": settings, "difference": 1e-6}, rows).splitlines()
    assert lines[-3:] == [
        "| X | x 1.0 | 0.50 | 0.75 | 35.0 | 30.0 |",
        "| Y | y not installed | needs y | | | |",
        "| `auto` | sadaflow | 0.25 | 0.50 | 20.0 | 20.0 |",
    ]


@pytest.mark.parametrize(
    ("peers", "reason"),
    [
        (Peers(steps=0), "steps must be at least 1, got 0"),
        (Peers(prompts=()), "prompts must be at least 1, got 0"),
        (Peers(solver="unipc"), "'unipc' has no counterpart in Diffusers here; known: ddim, dpmpp2m, euler"),
        (Peers(model="tiny-sdx"), "'tiny-sdx' is neither a folder"),
    ],
)
def test_what_cannot_be_measured_is_refused_first(peers: Peers, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        run_peers(peers, tmp_path / "out", device=CPU, dtype=FLOAT)
    assert not (tmp_path / "out").exists()


def test_results_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "peers.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"peers\.json exists; name another folder"):
        run_peers(Peers(), tmp_path, device=CPU, dtype=FLOAT)
