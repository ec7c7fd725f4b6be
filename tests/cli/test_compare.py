"""`sadaflow compare`: runs, table and figures, with a stand-in for the checkpoint; then with the embedded one."""

import json
import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sadaflow.cli import main
from sadaflow.compare import Request, coarser, compare, table
from sadaflow.compare.comparison import amplification
from sadaflow.compare.image_figure import draw
from sadaflow.compare.trajectory_figure import MOST_PROMPTS, draw_trajectory, veiled
from sadaflow.display.modes import MODE_COLOURS
from sadaflow.files.png import read_text
from sadaflow.solvers import Grid, RectifiedFlow, make_solver
from support.cli import error_of
from support.stand_in_pipeline import StandIn


def test_compare_without_an_accelerator_is_refused(pipe: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert "accelerator" in error_of(capsys, "compare", "x", "--accelerate", "none")


def test_comparison_holds_the_rivals_at_equal_cost() -> None:
    pipe = StandIn()
    result = compare(pipe, ["a", "bb"], Request(steps=20, seed=3))  # type: ignore[arg-type]
    plain, fewer, coarse, uniform, fast = result.rows
    assert plain.nfe == (20, 20) and fast.nfe == fewer.nfe == coarse.nfe == (14, 14)
    assert uniform.nfe == (11, 11)
    assert plain.psnr == (math.inf, math.inf)
    assert fast.psnr == pytest.approx((40, 40), abs=1e-3)  # off by 0.01: 20 log10(100)
    assert fast.modes[1] == tuple(StandIn.modes(20, "sada"))
    timed = pipe.calls[1:]  # the first call warms up
    assert [(call["accelerator"], call["steps"]) for call in timed[:5]] == [
        ("sada", 20), (None, 20), ("uniform", 20), (None, 14), (None, 14)
    ]  # fmt: skip
    assert all(call["seed"] == 3 and call["output"] == "tensor" for call in pipe.calls)


@pytest.mark.parametrize("name", ["euler", "dpmpp3m"])
def test_a_coarser_solver_keeps_its_kind_and_points_of_its_grid(name: str) -> None:
    t = torch.tensor([1.0, 0.9, 0.6, 0.5, 0.2, 0.1, 0.0], dtype=torch.float64)
    solver = make_solver(name, Grid.from_t(RectifiedFlow(), t))
    coarse = coarser(solver, 3)
    assert coarse.grid.t.tolist() == [1.0, 0.6, 0.2, 0.0]
    assert [node.timestep for node in coarse.nodes] == [1000.0, 600.0, 200.0]
    assert type(coarse) is type(solver) and coarse.order == solver.order
    assert coarser(solver, 6).grid.t.tolist() == t.tolist()


def test_table_has_means_and_the_worst_prompt() -> None:
    lines = table(compare(StandIn(), ["a", "bb"], Request(steps=20))).splitlines()  # type: ignore[arg-type]
    assert lines[0].split() == ["NFE", "seconds", "speed-up", "PSNR", "worst", "SSIM"]
    assert lines[1].split() == ["plain,", "20", "steps", "20", "20.00", "1.00x", "-", "-", "-"]
    assert lines[2].startswith("14 steps  ") and lines[3].startswith("14 steps on the plain grid  ")
    assert lines[5].split()[:6] == ["sada", "14", "14.00", "1.43x", "40.00", "40.00"]
    single = table(compare(StandIn(), ["a"], Request(steps=20)))  # type: ignore[arg-type]
    assert "worst" not in single


def test_compare_without_prompts_is_refused() -> None:
    with pytest.raises(ValueError, match="no prompt"):
        compare(StandIn(), [])  # type: ignore[arg-type]


def test_picture_shows_the_images_and_every_mode() -> None:
    result = compare(StandIn(size=(320, 320)), ["a", "bb"], Request(steps=20))  # type: ignore[arg-type]
    picture = draw(result)
    unit, side = 16, 320
    assert picture.width == 3 * side + 4 * unit
    pasted = picture.crop((unit, 4 * unit, unit + side, 4 * unit + side))
    values = torch.from_numpy(np.array(pasted)).permute(2, 0, 1) / 255
    torch.testing.assert_close(values, result.plain.images[0], atol=0.51 / 255, rtol=0)
    strip, width = 4 * unit + side + unit, picture.width - 2 * unit
    found = [picture.getpixel((unit + int(width * (step + 0.5) / 20), strip)) for step in range(20)]
    expected = [MODE_COLOURS[mode] for mode in StandIn.modes(20, "sada")]
    assert ["#" + bytes(colour).hex() for colour in found] == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("largest", "factor"), [(1.0, 1), (0.6, 1), (0.5, 2), (0.01, 64), (0.0, 64), (0.03, 32)])
def test_amplification_never_clips(largest: float, factor: int) -> None:
    assert amplification(torch.tensor([0.0, largest])) == factor


def test_compare_command_writes_two_pictures_and_the_table(pipe: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "red apple", "яблоко", "--steps", "20", "--out", "c.png"]) == 0
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["c-trajectory.png", "c.html", "c.png"]
    assert read_text("c-trajectory.png") == read_text("c.png")
    printed = capsys.readouterr().out
    assert [line.split("  ")[0] for line in printed.splitlines()[1:7]] == [
        "plain, 20 steps", "14 steps", "14 steps on the plain grid", "every 2nd evaluation", "sada", "auto"
    ]  # fmt: skip
    recipe = json.loads(read_text("c.png")["sadaflow"])
    assert recipe["prompt"] == "red apple\nяблоко" and recipe["nfe"] == 14


def test_an_existing_trajectory_is_kept_too(pipe: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a-trajectory.png").write_bytes(b"mine")
    assert "a-trajectory.png" in error_of(capsys, "compare", "x", "--out", "a.png")
    assert pipe.calls == [] and Path("a-trajectory.png").read_bytes() == b"mine"


@pytest.mark.parametrize("prompts", [1, 3, 6])
def test_the_trajectory_shows_every_mode_criterion_and_mask(prompts: int) -> None:
    names = ["a", "$b_{", "яблоко 苹果", "d", "e", "f"][:prompts]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = draw_trajectory(compare(StandIn(), names, Request(steps=20), trace=True))  # type: ignore[arg-type]
    pixels = np.asarray(picture)
    columns = min(prompts, MOST_PROMPTS)
    strip = next(row for row in pixels if len(_runs(row, MODE_COLOURS["full"])) == columns * 14)
    for mode, wanted in (("stepwise", 3), ("multistep", 3)):
        assert len(_runs(strip, MODE_COLOURS[mode])) == columns * wanted


def _runs(row: Any, colour: str) -> list[int]:
    """Where pixels of a colour begin in a line."""
    same = np.all(row == np.array(list(bytes.fromhex(colour[1:]))), axis=1)
    return [int(i) for i in np.flatnonzero(same & ~np.roll(same, 1))]


def test_pruned_tokens_are_greyed_and_the_others_are_not() -> None:
    image = torch.rand(3, 6, 4, generator=torch.Generator().manual_seed(0))
    computed = torch.tensor([[True, False], [False, False], [True, True]])
    made = veiled(image, computed)
    kept = computed.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal((made == image).all(dim=0), kept)
    assert (made[:, ~kept] - 0.5).abs().max() < 0.4 * (image[:, ~kept] - 0.5).abs().max() + 0.07


def test_a_comparison_without_traces_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="trace=True"):
        draw_trajectory(compare(StandIn(), ["a"], Request(steps=20)))  # type: ignore[arg-type]


def test_embedded_checkpoint_end_to_end(tmp_path: Path) -> None:
    """Both solvers in a process of their own, which is started once."""
    runs = [["--solver", "dpmpp2m", "--out", "50.png"], ["--solver", "euler", "--steps", "24", "--out", "24.png"]]
    code = "import sys; from sadaflow.cli import main; "
    code += f"sys.exit(any([main(['compare', 'red apple', *flags]) for flags in {runs}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    printed = [line.split() for line in done.stdout.splitlines()]
    for steps, rows in ((50, printed[1:7]), (24, printed[11:17])):
        nfe = [float(row[-5]) for row in rows]
        assert nfe[0] == steps and nfe[1] == nfe[2] == math.ceil(nfe[5])
        assert nfe[4] < 0.8 * steps and nfe[5] < 0.9 * steps
        assert all(float(row[-2]) > 15 for row in rows[1:])  # dB: the same picture, not another one
        with Image.open(tmp_path / f"{steps}.png") as picture:
            assert picture.width > 3 * 320
        with Image.open(tmp_path / f"{steps}-trajectory.png") as picture:
            assert picture.width > 640
