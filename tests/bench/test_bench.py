"""The bench: suites, folders that survive being killed, fronts, tables and pictures."""

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from sadaflow import Pipeline, Uniform
from sadaflow.accelerators import Mode
from sadaflow.bench import load_suite, parse_suite, report, run_bench, shipped_suites
from sadaflow.bench.reporting import fronts
from sadaflow.bench.reporting.front_figure import draw_fronts, spread
from sadaflow.bench.reporting.fronts import CEILING, Point, cost_at, fidelity_at, front
from sadaflow.bench.run.folder import Folder, Lines
from sadaflow.bench.run.memory import peak_memory
from sadaflow.bench.run.sweep import LETTERS, key_of
from sadaflow.bench.run.timing import timed
from sadaflow.bench.suite import Case
from sadaflow.bench.suite.model import PLAIN
from sadaflow.bench.suite.subjects import ANALYTIC, PipelineSubject
from sadaflow.cli import main
from sadaflow.generation.workers import Shard
from sadaflow.training.data.captions import CARD_PROMPTS
from support import checkpoints

Record = dict[str, Any]

MIXTURE = """
model = "mixture-vp"
batch = 2
seeds = [3, 5, 8]

[[case]]
solvers = ["euler", "dpmpp2m"]
steps = [9]

[[case]]
model = "mixture-flow"
solvers = ["euler"]
steps = [9, 8]

[[method]]
name = "uniform"
accelerator = "uniform"
settings = [{}, {every = 3, order = 2, correct = true}]

[[method]]
name = "fewer"
accelerator = "sub-grid"
settings = [{steps = 4}, {steps = 6}]

[[method]]
accelerator = "fewer-steps"
steps = [9]
settings = [{steps = 4}]

[report]
speedups = [1.5]
levels = [30]
rivals = ["uniform"]

[timing]
settings = ["uniform", "sub-grid steps=4"]
steps = [8]
rounds = 3
samples = 2
"""


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of the suite above."""
    folder = tmp_path_factory.mktemp("bench") / "whole"
    run_bench(parse_suite(MIXTURE, "m"), folder)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than the measurements here, and one test looks at them."""
    monkeypatch.setattr("sadaflow.bench.command.draw_fronts", lambda suite, records: ())


def lines(folder: Path) -> list[Record]:
    """All measurements but the seconds."""
    records = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


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


def cut(folder: Path, offset: int) -> None:
    """As if the bench had been killed while it wrote this byte."""
    file = folder / "samples.jsonl"
    file.write_bytes(file.read_bytes()[:offset])


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

    assert "process 0 of 3 has done its share" in start(0, 3)
    append = Lines.append
    with monkeypatch.context() as dying:
        dying.setattr(Lines, "append", lambda self, records: append(self, records) or stop())
        with pytest.raises(KeyboardInterrupt):
            start(1, 3)
    assert "process 2 of 3 has done its share" in start(2, 3)
    before = sum(file.read_bytes().count(b"\n") for file in folder.rglob("samples.jsonl"))
    assert 0 < before < len(lines(mixture))
    assert "process 0 of 2" in start(0, 2, resume=True)
    assert start(1, 2) == (mixture / "table.md").read_text() == (folder / "table.md").read_text()
    assert lines(folder) == lines(mixture)
    assert not (folder / "parts").exists() and not (folder / "gathering").exists()
    with pytest.raises(ValueError, match="--timing is for one process"):
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
        with pytest.raises(BlockingIOError, match="another command is at work in the folder '.*busy'"):
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
        (lambda folder: (folder / "header.json").write_text("[]"), ["header.json", "not the header"]),
        (lambda folder: edit_header(folder, suite="x"), ["another suite", "another folder"]),
        (lambda folder: edit_header(folder, dtype="float16"), ["another dtype (float16, now float32)"]),
        (lambda folder: edit_header(folder, models={"mixture-vp": "0"}), ["weights of mixture-vp", "another folder"]),
        (lambda folder: damage(folder / "samples.jsonl"), ["samples.jsonl, line 1 is damaged", "delete it"]),
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


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[5:9] = b"\0\0\0\0"
    file.write_bytes(bytes(content))


def test_a_damaged_reference_is_named(mixture: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mixture, tmp_path / "spoiled")
    cut(folder, 1000)
    for file in (folder / "references").iterdir():
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"references.*safetensors is damaged.*delete it and resume"):
        run_bench(parse_suite(MIXTURE, "m"), folder, resume=True)


@pytest.mark.usefixtures("undrawn")
def test_what_changed_between_sessions_is_told(mixture: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mixture, tmp_path / "other")
    session = json.loads((folder / "header.json").read_text())["sessions"][0]
    edit_header(folder, sessions=[{**session, "hardware": "abacus", "source": "older"}])
    text = run_bench(parse_suite(MIXTURE, "m"), folder, resume=True)
    assert "Resumed on edited code (older, " in text and "Resumed on other hardware (abacus, " in text
    assert "Resumed" not in (mixture / "table.md").read_text()


# --- tables and fronts


def table_of(text: str, title: str, number: int) -> dict[str, list[str]]:
    """Cells by the second column (settings) of the table `number` under a heading, or by the first (methods)."""
    block = text.split(f"## {title}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?:^\|.*\|\n)+", block + "\n", re.MULTILINE)[number]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()[2:]]
    return {row[1 - number]: row for row in rows}


def test_table_against_the_lines(mixture: Path) -> None:
    text = (mixture / "table.md").read_text()
    records = [one for one in lines(mixture) if (one["model"], one["steps"]) == ("mixture-flow", 8)]
    table = table_of(text, "mixture-flow, euler, 8 steps", 0)
    corrected = "uniform every=3 order=2 correct=true"
    assert list(table) == ["plain", "uniform", corrected, "sub-grid steps=4", "sub-grid steps=6"]
    for setting in list(table)[1:]:
        nfe = np.array([one["nfe"] for one in records if one["setting"] == setting])
        errors = np.array([one["error"] for one in records if one["setting"] == setting])
        levels = -10 * np.log10(errors**2)
        assert table[setting][2:] == [
            f"{nfe.mean():.1f}", f"{levels.mean():.2f}", f"{levels.min():.2f}",
            f"{errors.mean():.2e}", f"{errors.max():.2e}",
        ]  # fmt: skip
    assert table["plain"][2:] == ["8.0", "-", "-", "-", "-"]


def test_readings_against_the_lines(mixture: Path) -> None:
    reached = table_of((mixture / "table.md").read_text(), "mixture-flow, euler, 8 steps", 1)
    records = [one for one in lines(mixture) if (one["model"], one["steps"]) == ("mixture-flow", 8)]

    def level(setting: str, how: Callable[[np.ndarray], float]) -> float:
        return how(-20 * np.log10([one["error"] for one in records if one["setting"] == setting]))

    fewer = [[level(f"sub-grid steps={steps}", how) for steps in (4, 6)] for how in (np.mean, np.min)]
    at_cost = [np.interp(8 / 1.5, [4, 6], levels) for levels in fewer]
    assert reached["fewer"][1] == f"{at_cost[0]:.1f} / {at_cost[1]:.1f}"
    assert reached["uniform"][3] == "6.0 / 6.0"  # its own fidelity, at its own cost: steps 0, 1, 2, 4, 6, 7
    assert "Not finished" not in (mixture / "table.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_an_unfinished_folder_says_so(mixture: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mixture, tmp_path / "part")
    cut(folder, 2000)
    kept = (folder / "samples.jsonl").read_text().count("\n")
    assert f"Not finished: {kept} of 69 samples." in report(folder)


def test_a_sample_measured_twice_is_refused(mixture: Path) -> None:
    suite, records = parse_suite(MIXTURE, "m"), Folder.read(mixture).samples.read()
    with pytest.raises(ValueError, match="'plain' was measured twice"):
        fronts.rows(suite, suite.cases[0], [*records, records[0]])


def test_samples_count_at_most_the_ceiling() -> None:
    suite = parse_suite(MIXTURE, "m")
    case = suite.cases[0]
    base = {"model": case.model, "solver": case.solver, "steps": 9, "guidance": None, "setting": "uniform"}
    base |= {"prompt": "", "nfe": 5.0, "ssim": 1.0, "error": 0.0}
    records = [{**base, "seed": seed, "psnr": value} for seed, value in enumerate(["inf", 130.0, 40.0])]
    (row,) = fronts.rows(suite, case, records)
    assert row.fidelity == pytest.approx((2 * CEILING + 40) / 3) and row.worst == 40


def test_front_holds_what_no_other_point_beats() -> None:
    generator = random.Random(2)
    points = [Point(generator.randrange(10, 30), generator.uniform(20, 60)) for _ in range(60)]
    beaten = {a for a in points for b in points if b != a and b.cost <= a.cost and b.fidelity >= a.fidelity}
    assert front([*points, Point(50, CEILING)]) == sorted(set(points) - beaten)


def test_readings_are_linear_between_points_and_bounds_beyond() -> None:
    points = [Point(10, 30), Point(20, 50), Point(25, 51)]
    costs, levels = zip(*points, strict=True)
    for cost in (10, 12.5, 20, 24, 25):
        assert fidelity_at(points, cost) == (pytest.approx(np.interp(cost, costs, levels)), "")
    for fidelity in (30, 41, 50.5, 51):
        assert cost_at(points, fidelity) == (pytest.approx(np.interp(fidelity, levels, costs)), "")
    assert fidelity_at(points, 9.9) is None and cost_at(points, 51.1) is None
    assert fidelity_at(points, 26) == (51, ">=") and cost_at(points, 20) == (10, "<=")
    assert fidelity_at([], 20) is None and cost_at([], 20) is None


def test_speeds_are_ratios_within_a_round() -> None:
    case = Case("m", "euler", 10)
    named = {"model": "m", "solver": "euler", "steps": 10, "guidance": None}
    slow = [1.0, 2.0, 4.0]  # the machine slows down; the ratios are 2, 2 and 4
    runs = [{"plain": {"nfe": 10, "seconds": 2 * s, "controller": 0.0, "network": 1.5 * s, "memory": 10},
             "fast": {"nfe": 4, "seconds": s if s < 4 else 2.0, "controller": 0.02 * s, "network": s / 2,
                      "memory": 30 - s}} for s in slow]  # fmt: skip
    found = fronts.speeds(case, [{**named, "runs": one} for one in runs])
    fast = found["fast"]
    assert (fast.rounds, fast.speedup, fast.low, fast.high, fast.seconds) == (3, 2.0, 2.0, 3.0, 2.0)
    assert fast.realised == pytest.approx(0.5 / 0.6) and fast.controller == pytest.approx(0.01)
    assert (fast.network, fast.memory) == (1.0, 29) and (found["plain"].network, found["plain"].memory) == (3.0, 10)
    assert found["plain"].speedup == 1 and found["plain"].realised is None


def test_peak_memory_is_of_tensors_alive_at_once() -> None:
    weights = torch.zeros(1000)  # there before: neither it nor a view of it counts

    def act() -> None:
        first = weights.view(10, 100) + 1  # 4000 bytes
        second = first * 2  # 8000 alive
        del first
        third = second.view(-1).add_(1)[:500].clone()  # 6000: in place and views cost nothing
        del second, third
        torch.zeros(1500)  # 6000

    for _ in range(2):
        assert peak_memory(act, torch.device("cpu")) == 8000


@pytest.mark.usefixtures("undrawn")
def test_timing_goes_round_by_round_and_resumes(tmp_path: Path) -> None:
    suite, folder = parse_suite(MIXTURE, "m"), tmp_path / "timed"
    text = run_bench(suite, folder, timing=True)
    file = folder / "timing.jsonl"
    whole = [json.loads(line) for line in file.read_text().splitlines()]
    units = [(line["first"], line["round"], line["samples"]) for line in whole]
    assert units == [(first, index, 1) for first in (0, 1) for index in range(3)]
    assert [next(iter(line["runs"])) for line in whole[:3]] == ["plain", "uniform", "sub-grid steps=4"]
    for line in whole:
        nfe = {setting: run["nfe"] for setting, run in line["runs"].items()}
        assert nfe == {"plain": 8, "uniform": 6, "sub-grid steps=4": 4}
        for run in line["runs"].values():
            assert 0 < run["network"] < run["seconds"] and 0 <= run["controller"] < run["seconds"] - run["network"]
        assert line["runs"]["uniform"]["memory"] > line["runs"]["plain"]["memory"] > 3 * 8 * 8 * 8  # it keeps past x0
    assert not (folder / "samples.jsonl").exists() and "Timing not finished" not in text
    file.write_bytes(file.read_bytes()[:-30])
    run_bench(suite, folder, timing=True, resume=True)
    again = [json.loads(line) for line in file.read_text().splitlines()]
    assert again[:5] == whole[:5] and [(line["first"], line["round"]) for line in again[5:]] == [(1, 2)]
    assert [timed(suite, case) == () for case in suite.cases] == [True, True, True, False]


def test_timing_needs_the_suite_to_say_what(tmp_path: Path) -> None:
    suite = parse_suite(MIXTURE.split("[timing]")[0], "m")
    with pytest.raises(ValueError, match=r"no \[timing\] table"):
        run_bench(suite, tmp_path / "new", timing=True)
    assert not (tmp_path / "new").exists()


def test_picture_shows_every_front_and_names_it(mixture: Path) -> None:
    suite = parse_suite(MIXTURE, "m")
    records = Folder.read(mixture).samples.read()
    drawn = dict(draw_fronts(suite, records))
    assert list(drawn) == ["fronts-mixture-vp-euler", "fronts-mixture-vp-dpmpp2m", "fronts-mixture-flow-euler"]
    assert sorted(path.stem for path in mixture.glob("*.png")) == sorted(drawn)
    panels = drawn["fronts-mixture-flow-euler"].axes
    assert [panel.get_title(loc="left") for panel in panels] == ["9 steps", "8 steps"]
    assert {text.get_text() for text in panels[1].texts} == {"uniform", "fewer", "half the cost"}
    assert {text.get_text() for text in panels[0].texts} == {"uniform", "fewer", "fewer-steps", "half the cost"}
    table = fronts.rows(suite, suite.cases[3], records)
    lines_drawn = {tuple(map(tuple, line.get_xydata().tolist())) for line in panels[1].lines}
    for worst in (False, True):
        assert {tuple(map(tuple, points)) for points in fronts.fronts(table, worst).values()} <= lines_drawn


def test_spread_keeps_order_and_distance() -> None:
    generator = random.Random(4)
    for count in range(1, 9):
        heights = [generator.uniform(0.2, 0.9) for _ in range(count)]
        placed = spread(heights, 0.05)
        order = sorted(range(count), key=heights.__getitem__)
        gaps = [placed[after] - placed[before] for before, after in zip(order, order[1:], strict=False)]
        assert all(gap >= 0.05 - 1e-9 for gap in gaps) and max(placed) <= 1
    assert spread([0.1, 0.5], 0.05) == pytest.approx([0.1, 0.5])
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])


# --- suites


def test_shipped_suites_are_sound() -> None:
    prompted = [name for name in shipped_suites() if not name.startswith("paper-")]  # they are in files of their own
    suites = {name: load_suite(name) for name in prompted}
    assert set(suites) == {
        "fronts-mixture", "fronts-tiny-flux", "fronts-tiny-sd", "quick", "tune-tiny-flux", "tune-tiny-sd"
    }  # fmt: skip
    for name in ("tiny-sd", "tiny-flux"):
        shown, tuned = suites[f"fronts-{name}"], suites[f"tune-{name}"]
        assert {sample.prompt for sample in shown.samples} == set(CARD_PROMPTS)
        assert len(shown.samples) == 80 and len(tuned.samples) == 64
        for what in ("prompt", "seed"):
            assert not {getattr(one, what) for one in shown.samples} & {getattr(one, what) for one in tuned.samples}
        assert {case.model for case in (*shown.cases, *tuned.cases)} == {name}


@pytest.mark.parametrize("name", ["fronts-tiny-sd", "fronts-mixture"])
def test_every_setting_of_a_shipped_suite_can_run(name: str) -> None:
    """On the analytic problems, which have the schedules of the checkpoints."""
    suite = load_suite(name)
    for case in suite.cases:
        subject = ANALYTIC[case.model if case.model in ANALYTIC else "mixture-vp"]()
        for setting in suite.settings(case):
            solver, accelerator = setting.arrange(case, subject)
            assert (solver.n_evals < case.steps) == (setting != PLAIN and accelerator is None)


def change(old: str, new: str) -> str:
    assert old in MIXTURE
    return MIXTURE.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = ", ["suite m is not valid TOML"]),
        (change("seeds = [3, 5, 8]", ""), ["suite m: seeds is missing", "whole numbers"]),
        (change("seeds = [3, 5, 8]", "seeds = []"), ["suite m: seeds must be", "not empty"]),
        (change("seeds = [3, 5, 8]", "seeds = [3, 3]"), ["suite m: seeds holds an entry twice"]),
        (change("seeds = [3, 5, 8]", "seeds = [-1]"), ["suite m: seeds must be", "[-1]"]),
        (change("batch = 2", "batch = true"), ["suite m: batch must be a whole number", "True"]),
        (change("batch = 2", "bach = 2"), ["suite m: unknown key 'bach'", "batch"]),
        (change("steps = [9, 8]", "steps = [9]\nguidance = 5.0"), ["case 2", "guidance", "mixture-flow"]),
        (change('solvers = ["euler", "dpmpp2m"]', 'solvers = ["eulr"]'), ["suite m: case 1", "'eulr'", "dpmpp2m"]),
        (change('"dpmpp2m"]', '"euler-ancestral"]'), ["case 1", "'euler-ancestral' draws noise"]),
        (change('"dpmpp2m"]', '"euler"]'), ["a case occurs twice"]),
        (change('model = "mixture-vp"', ""), ["case 1", "a model is missing", "mixture-vp"]),
        (change('model = "mixture-flow"', 'model = "tiny-sd"'), ["mixture-vp", "without checkpoints"]),
        (change('accelerator = "uniform"', 'accelerator = "unifrm"'), ["method 1", "'unifrm'", "uniform", "sub-grid"]),
        (change("every = 3", "evry = 3"), ["method 1: setting 2", "uniform has no argument 'evry'", "correct"]),
        (change("every = 3", "every = 0"), ["method 1: setting 2", "Uniform.every must be at least 1", "0"]),
        (change("every = 3", 'every = "x"'), ["method 1: setting 2"]),
        (change("{every = 3, order = 2, correct = true}", "{}"), ["setting 'uniform' occurs twice at 9 steps"]),
        (change("{steps = 6}", "{step = 6}"), ["method 2: setting 2", "steps is missing"]),
        (change("{steps = 6}", "{steps = 6, every = 2}"), ["method 2: setting 2", "no argument 'every'", "steps"]),
        (change("{steps = 6}", "{steps = 10}"), ["method 2: setting 2", "10", "8 of a case"]),
        (change("steps = [9]\nsettings", "steps = [7]\nsettings"), ["method 3", "no case has 7 steps", "9, 8"]),
        (change("speedups = [1.5]", "speedups = [0.5]"), ["report", "speedups", "at least 1"]),
        (change('rivals = ["uniform"]', 'rivals = ["sada"]'), ["report: rivals", "'sada'", "uniform"]),
        (change('"sub-grid steps=4"]', '"sub-grid steps=5"]'), ["timing: settings", "'sub-grid steps=5'", "steps=4"]),
        (change("steps = [8]", "steps = [5]"), ["timing", "no case has 5 steps"]),
    ],
)  # fmt: skip
def test_a_bad_suite_is_refused_with_place_and_remedy(text: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        parse_suite(text, "m")
    assert all(word in str(caught.value) for word in words), caught.value


def test_prompts_are_needed_by_checkpoints_alone() -> None:
    checkpoint = MIXTURE.replace("mixture-vp", "tiny-sd").replace("mixture-flow", "tiny-flux")
    with pytest.raises(ValueError, match="prompts is missing"):
        parse_suite(checkpoint, "m")
    assert len(parse_suite('prompts = ["a", "b"]\n' + checkpoint, "m").samples) == 6
    with pytest.raises(ValueError, match="unknown key 'prompts'"):
        parse_suite('prompts = ["a", "b"]\n' + MIXTURE, "m")


def test_what_does_not_fit_a_solver_is_refused_before_any_work(tmp_path: Path) -> None:
    text = change("{every = 3, order = 2, correct = true}", "{order = 6}")
    with pytest.raises(ValueError, match=r"'uniform order=6' on mixture-vp, euler, 9 steps: .* at least 10 steps"):
        run_bench(parse_suite(text, "m"), tmp_path / "out")
    assert not (tmp_path / "out" / "samples.jsonl").exists()


def test_a_network_that_a_method_cannot_use_is_refused_before_any_work(tmp_path: Path) -> None:
    text = 'model = "tiny-flux"\nprompts = ["x"]\nseeds = [0]\n[[case]]\nsolvers = ["euler"]\nsteps = [9]\n'
    text += '[[method]]\nname = "deep"\naccelerator = "deepcache"\nsettings = [{}]\n'
    with pytest.raises(ValueError, match=r"'deepcache' on tiny-flux, euler, 9 steps: .* needs a U-Net"):
        run_bench(parse_suite(text, "m"), tmp_path / "out")
    assert not (tmp_path / "out" / "references").exists()


def test_every_mode_has_a_letter_of_its_own() -> None:
    assert set(LETTERS) == set(Mode) and len(set(LETTERS.values())) == len(LETTERS)


# --- a checkpoint, and the command


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.stable_diffusion(tmp_path_factory.mktemp("sd") / "tiny", "sd21")


def on(checkpoint: Path) -> str:
    return f"""
model = {json.dumps(str(checkpoint))}
guidance = 3.0
batch = 2
prompts = ["a", "b"]
seeds = [1]
[[case]]
solvers = ["euler"]
steps = [8]
[[method]]
accelerator = "uniform"
[[method]]
accelerator = "fewer-steps"
settings = [{{steps = 4}}]
"""


def test_command_measures_a_checkpoint(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(on(checkpoint))
    assert main(["bench", "mine.toml", "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == Path("out/table.md").read_text().strip()
    pipe = Pipeline.from_pretrained(checkpoint)
    call: dict[str, Any] = {"solver": "euler", "guidance": 3.0, "seed": [1, 1], "output": "tensor"}
    plain, fewer = (pipe(["a", "b"], steps=steps, **call).images.numpy() for steps in (8, 4))
    expected = [peak_signal_noise_ratio(plain[i], fewer[i], data_range=1) for i in range(2)]
    found = [record for record in lines(Path("out")) if record["setting"] == "fewer-steps steps=4"]
    assert [record["psnr"] for record in found] == pytest.approx(expected, abs=1e-3)
    assert table_of(printed, f"{checkpoint}, euler, 8 steps, guidance 3", 0)["fewer-steps steps=4"][3:5] == [
        f"{np.mean(expected):.2f}", f"{min(expected):.2f}"
    ]  # fmt: skip
    assert main(["bench", "mine.toml", "--out", "out"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["bench", "mine.toml", "--out", "out", "--resume"]) == 0


def test_other_weights_have_another_fingerprint(checkpoint: Path) -> None:
    pipe = Pipeline.from_pretrained(checkpoint)
    first = PipelineSubject(pipe).fingerprint
    assert PipelineSubject(Pipeline.from_pretrained(checkpoint)).fingerprint == first
    assert isinstance(pipe.vae, torch.nn.Module)
    with torch.no_grad():
        next(pipe.vae.parameters()).mul_(1.001)
    assert PipelineSubject(pipe).fingerprint != first


def test_unknown_suites_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "quack", "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert "'quack'" in message and "fronts-tiny-sd" in message and ".toml" in message
    (tmp_path / "latin.toml").write_bytes("# \xe9".encode("latin-1"))
    assert main(["bench", str(tmp_path / "latin.toml"), "--out", str(tmp_path / "out")]) == 2
    assert "UTF-8" in capsys.readouterr().err and not (tmp_path / "out").exists()
