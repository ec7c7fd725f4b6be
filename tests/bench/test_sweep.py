"""The bench's sweep: numbers of the sampling loop, and folders that survive being killed, shared or damaged."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sadaflow import Uniform
from sadaflow.bench import parse_suite, run_bench
from sadaflow.bench.run.folder import Lines
from sadaflow.bench.run.sweep import key_of
from sadaflow.bench.suite.mixture import ANALYTIC
from sadaflow.generation.workers import Shard
from support.bench import MIXTURE, cut, lines


def test_every_sample_is_measured_once_in_every_setting(mixture: Path) -> None:
    expected = []
    cases = [("mixture-vp", "euler", 9), ("mixture-vp", "dpmpp2m", 9), ("mixture-flow", "euler", 9),
             ("mixture-flow", "euler", 8)]  # fmt: skip
    settings = ["plain", "uniform", "uniform every=3 order=2 correct=true", "sub-grid steps=4", "sub-grid steps=6"]
    for model, solver, steps in cases:
        for setting in settings + ["fewer-steps steps=4"] * (steps == 9):
            expected += [(model, solver, steps, None, setting, "", seed) for seed in (3, 5, 8)]
    assert sorted(map(str, map(key_of, lines(mixture)))) == sorted(map(str, expected))
    assert len({*map(key_of, lines(mixture))}) == len(expected)


def test_the_numbers_of_a_sample_are_those_of_the_sampling_loop(mixture: Path) -> None:
    subject = ANALYTIC["mixture-flow"]()
    solver = subject.solver("euler", 9)
    plain = subject.run([""] * 2, [3, 5], None, solver, None)
    fast = subject.run([""] * 2, [3, 5], None, solver, Uniform(3, 2, correct=True))
    found = [record for record in lines(mixture)
             if record["setting"].startswith("uniform every") and record["model"] == "mixture-flow"
             and record["steps"] == 9][:2]  # fmt: skip
    difference = (fast.latents - plain.latents).numpy().reshape(2, -1)
    expected = np.linalg.norm(difference, axis=1) / np.linalg.norm(plain.latents.numpy().reshape(2, -1), axis=1)
    assert [record["error"] for record in found] == pytest.approx(expected.tolist(), rel=1e-12)
    assert [record["nfe"] for record in found] == fast.stats.nfe
    assert {record["modes"] for record in found} == {"FFFFxxFFF"} and {record["psnr"] for record in found} == {None}


@pytest.mark.usefixtures("undrawn")
def test_a_killed_sweep_ends_as_an_undisturbed_one(mixture: Path, tmp_path: Path) -> None:
    generator = random.Random(0)
    size = (mixture / "samples.jsonl").stat().st_size
    for trial, offset in enumerate([0, 1, size - 1, size, *(generator.randrange(size) for _ in range(6))]):
        folder = shutil.copytree(mixture, tmp_path / str(trial))
        cut(folder, offset)
        for file in sorted((folder / "references").iterdir()):
            if generator.random() < 0.2:
                file.rename(file.with_suffix(".safetensors.part"))  # killed before the file got its name
        run_bench(parse_suite(MIXTURE, "m"), folder, resume=True)
        assert sorted(map(json.dumps, lines(folder))) == sorted(map(json.dumps, lines(mixture))), offset
        assert lines(folder) == lines(mixture), offset
        assert (folder / "samples.jsonl").read_bytes().endswith(b"}\n")


@pytest.mark.usefixtures("undrawn")
def test_interrupted_again_and_again_nothing_is_lost_or_doubled(
    mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops in the middle of writing: the first part of a batch's lines, the last of them torn, reaches the file."""
    append, generator, stops = Lines.append, random.Random(1), 0

    def torn(self: Lines, records: Any) -> None:
        append(self, records)
        if generator.random() < 0.3:
            whole = self.path.read_bytes()
            self.path.write_bytes(whole[: len(whole) - generator.randrange(1, 250)])
            raise KeyboardInterrupt

    monkeypatch.setattr(Lines, "append", torn)
    folder = tmp_path / "out"
    while True:
        try:
            run_bench(parse_suite(MIXTURE, "m"), folder, resume=True)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 3
    assert lines(folder) == lines(mixture)


@pytest.mark.usefixtures("undrawn")
def test_several_processes_measure_what_one_measures(
    mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after another; the second of three dies, and two resume what they left."""
    monkeypatch.setattr(Shard, "lead", lambda shard, prepare: prepare() if shard.leads else None)
    suite, folder = parse_suite(MIXTURE, "m"), tmp_path / "parts"

    def start(rank: int, size: int, resume: bool = False) -> str:
        return run_bench(suite, folder, resume=resume, shard=Shard(rank, size))

    assert "process 0 of 3 has finished" in start(0, 3)
    append = Lines.append
    with monkeypatch.context() as dying:
        dying.setattr(Lines, "append", lambda self, records: append(self, records) or stop())
        with pytest.raises(KeyboardInterrupt):
            start(1, 3)
    assert "process 2 of 3 has finished" in start(2, 3)
    before = sum(file.read_bytes().count(b"\n") for file in folder.rglob("samples.jsonl"))
    assert 0 < before < len(lines(mixture))
    assert "process 0 of 2" in start(0, 2, resume=True)
    assert start(1, 2) == (mixture / "table.md").read_text() == (folder / "table.md").read_text()
    assert lines(folder) == lines(mixture)
    assert not (folder / "parts").exists() and not (folder / "gathering").exists()
    with pytest.raises(ValueError, match="--timing needs a single process"):
        run_bench(suite, folder, resume=True, timing=True, shard=Shard(0, 2))


def stop() -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("undrawn")
def test_parts_are_put_together_whenever_that_was_cut_off(mixture: Path, tmp_path: Path) -> None:
    suite = parse_suite(MIXTURE, "m")
    whole = (mixture / "samples.jsonl").read_text().splitlines(keepends=True)
    for name in ("parts", "gathering"):
        folder = shutil.copytree(mixture, tmp_path / name)
        for part, own in enumerate((whole[:20], whole[15:], ["torn"])):
            (folder / name / str(part)).mkdir(parents=True)
            (folder / name / str(part) / "samples.jsonl").write_text("".join(own))
        (folder / "samples.jsonl").write_text("".join(whole[10:12]))
        run_bench(suite, folder, resume=True)
        assert (folder / "samples.jsonl").read_text() == "".join(whole) and not (folder / name).exists()


@pytest.mark.usefixtures("undrawn")
def test_a_finished_folder_is_left_as_it_is(mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(mixture, tmp_path / "again")
    monkeypatch.setattr("sadaflow.bench.run.sweep.run", None)  # nothing is sampled
    run_bench(parse_suite(MIXTURE, "m"), folder, resume=True)
    assert (folder / "samples.jsonl").read_bytes() == (mixture / "samples.jsonl").read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
@pytest.mark.usefixtures("undrawn")
def test_one_command_at_a_time_fills_a_folder(mixture: Path, tmp_path: Path) -> None:
    suite, folder = parse_suite(MIXTURE, "m"), shutil.copytree(mixture, tmp_path / "busy")
    cut(folder, 100)
    edit_header(folder, sessions=[])
    header = (folder / "header.json").read_bytes()
    child = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_SH); print(flush=True); "
    command = [sys.executable, "-c", child + "sys.stdin.read()", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()  # it has the lock
        with pytest.raises(BlockingIOError, match="another command is writing to the folder '.*busy'"):
            run_bench(suite, folder, resume=True)
        assert (folder / "samples.jsonl").stat().st_size == 100
        assert (folder / "header.json").read_bytes() == header
        other.kill()
    run_bench(suite, folder, resume=True)
    assert sorted(map(json.dumps, lines(folder))) == sorted(map(json.dumps, lines(mixture)))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: None, ["exists", "--resume"]),
        (lambda folder: (folder / "header.json").unlink(), ["no header.json", "another folder"]),
        (lambda folder: (folder / "header.json").write_text("{"), ["header.json", "damaged"]),
        (lambda folder: (folder / "header.json").write_text("[]"), ["header.json", "it holds a list"]),
        (lambda folder: edit_header(folder, suite="x"), ["another suite", "another folder"]),
        (lambda folder: edit_header(folder, dtype="float16"), ["another dtype (float16, now float32)"]),
        (lambda folder: edit_header(folder, models={"mixture-vp": "0"}), ["weights of mixture-vp", "another folder"]),
        (lambda folder: edit_header(folder, format=1), ["header.json is of format 1", "another folder"]),
        (lambda folder: edit_header(folder, sessions=[{}]), ["header.json, sessions[0] is damaged", "'python'"]),
        (lambda folder: edit_header(folder, samples=[["x", "1"]]), ["header.json is damaged", "samples"]),
        (lambda folder: link(folder, "references"), ["references is a link", "remove it"]),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(
    spoil: Callable[[Path], object], words: list[str], mixture: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(mixture, tmp_path / "spoiled")
    spoil(folder)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != "header.json"}
    with pytest.raises((ValueError, OSError)) as caught:
        run_bench(parse_suite(MIXTURE, "m"), folder, resume="--resume" not in words)
    assert all(word in str(caught.value) for word in words), caught.value
    assert {file: file.read_bytes() for file in before} == before


def edit_header(folder: Path, **changes: Any) -> None:
    header = json.loads((folder / "header.json").read_text())
    (folder / "header.json").write_text(json.dumps({**header, **changes}))


def link(folder: Path, name: str) -> None:
    outside = (folder / name).rename(folder.parent / "outside")
    (folder / name).symlink_to(outside)


@pytest.mark.usefixtures("undrawn")
def test_what_changed_between_sessions_is_told(mixture: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mixture, tmp_path / "other")
    session = json.loads((folder / "header.json").read_text())["sessions"][0]
    edit_header(folder, sessions=[{**session, "hardware": "abacus", "source": "older"}])
    text = run_bench(parse_suite(MIXTURE, "m"), folder, resume=True)
    assert "Resumed on edited code (older, " in text and "Resumed on other hardware (abacus, " in text
    assert "Resumed" not in (mixture / "table.md").read_text()
