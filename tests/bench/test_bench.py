"""The bench's tables, fronts, figures, times and memory."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sadaflow.accelerators import Mode
from sadaflow.bench import parse_suite, report, run_bench
from sadaflow.bench.reporting import fronts
from sadaflow.bench.reporting.curves import spread
from sadaflow.bench.reporting.front_figure import draw_fronts
from sadaflow.bench.reporting.fronts import CEILING, Point, cost_at, fidelity_at, front
from sadaflow.bench.run.folder import Folder
from sadaflow.bench.run.memory import peak_memory
from sadaflow.bench.run.sweep import LETTERS
from sadaflow.bench.run.timing import timed
from sadaflow.bench.suite import Case
from support.bench import MIXTURE, cut, lines, table_of


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
            f"{nfe.mean():.1f}", f"{levels.mean():.2f}", f"{np.percentile(levels, 5):.2f}", f"{levels.min():.2f}",
            f"{errors.mean():.2e}", f"{errors.max():.2e}",
        ]  # fmt: skip
    assert table["plain"][2:] == ["8.0", "-", "-", "-", "-", "-"]


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
    assert row.fifth == pytest.approx(44)  # a tenth of the way from 40 to 80


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


def test_peak_memory_of_tensors_without_memory_is_what_they_would_take() -> None:
    def act() -> None:
        first = torch.zeros(1000, device="meta").double()  # 8000 after 4000
        first[:10].clone()

    assert peak_memory(act, torch.device("meta")) == 12000
    assert peak_memory(act, torch.device("cpu")) == 0  # networks are built there before they have weights


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
    drawn_lines = [line.get_xydata() for line in panels[1].lines]
    for worst in (False, True):
        for points in fronts.fronts(table, worst).values():
            shares = [(100 * point.cost / 8, point.fidelity) for point in points]  # % of the plain run's 8 evaluations
            assert any(len(line) == len(shares) and np.allclose(line, shares) for line in drawn_lines)


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


def test_every_mode_has_a_letter_of_its_own() -> None:
    assert set(LETTERS) == set(Mode) and len(set(LETTERS.values())) == len(LETTERS)
