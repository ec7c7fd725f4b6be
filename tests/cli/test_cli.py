"""The command line from its arguments to its files, with a stand-in for the checkpoint; then with the embedded one."""

import json
import math
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import sadaflow.cli.load
from sadaflow.cli import main
from sadaflow.compare import Request, coarser, compare, table
from sadaflow.compare.image_figure import amplification, draw
from sadaflow.compare.style import MODE_COLOURS
from sadaflow.compare.trajectory_figure import MOST_PROMPTS, draw_trajectory, veiled
from sadaflow.files.png import read_text
from sadaflow.loading.sampling_defaults import Recommended
from sadaflow.sampling import Stats, Trace
from sadaflow.solvers import Grid, RectifiedFlow, Solver, make_solver
from support.cli import error_of


@dataclass(frozen=True)
class Made:
    images: Tensor
    stats: Stats
    trace: Trace | None = None
    audio: None = None


@dataclass
class StandIn:
    """Answers as a Pipeline does: a picture from prompt and seed, off by 0.01 where evaluations are skipped."""

    name: str = "stand-in"
    seconds_per_evaluation: float = 0.5
    size: tuple[int, int] = (16, 24)
    default_guidance: float = 7.5
    recommended: Recommended = Recommended()
    family: None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    grids: list[str | None] = field(default_factory=list)

    def __call__(self, prompt: str | Sequence[str], **arguments: Any) -> Made:
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        self.calls.append({"prompts": prompts, **arguments})
        solver = arguments["solver"]
        steps = arguments["steps"] if isinstance(solver, str | None) else solver.n_evals
        modes = self.modes(steps, arguments["accelerator"])
        nfe = float(modes.count("full"))
        images = torch.stack([self.picture(one, arguments["seed"]) for one in prompts])
        if nfe < len(modes):
            images = images + 0.01
        count = len(prompts)
        stats = Stats([nfe] * count, [modes] * count, nfe * count * self.seconds_per_evaluation, 0.0, 0.0)
        return Made(images, stats, self.trace(modes) if arguments.get("trace") else None)

    def solver(self, name: str | None, steps: int, grid: str | None, **size: int | None) -> Solver:
        self.grids.append(grid)
        return make_solver(name or "dpmpp2m", Grid.from_t(RectifiedFlow(), torch.linspace(1, 0, steps + 1)))

    @staticmethod
    def modes(steps: int, accelerator: str | None) -> list[str]:
        skipped = {None: (), "uniform": range(2, steps - 1, 2), "sada": range(3, steps - 1, 3)}[accelerator]
        return ["full" if i not in skipped else "stepwise" if i < steps / 2 else "multistep" for i in range(steps)]

    @staticmethod
    def trace(modes: list[str]) -> Trace:
        """Two values per step, a little off where it is skipped; the criterion decides the first half."""
        steps, skipped = len(modes), torch.tensor([mode != "full" for mode in modes])
        t = torch.linspace(1, 0.05, steps, dtype=torch.float64)
        x0 = (1 + 0.1 * skipped).view(1, steps, 1).repeat(1, 1, 2)
        criterion = torch.where(skipped, -1e-6, 1e-5).double().view(1, steps)
        criterion[:, steps // 2 :] = math.nan
        tokens = [None if skipped[step] else torch.arange(6).view(2, 3) > 1 for step in range(steps)]
        return Trace(
            x=x0, x0=x0, y=x0, modes=(tuple(modes),), criterion=criterion, criterion_name="stability criterion",
            threshold=0.0, tokens=(tuple(tokens),), t=t, timestep=1000 * t, sigma=t, log_snr=torch.log(1 / t - 1),
            network_seconds=t, controller_seconds=t,
        )  # fmt: skip

    def picture(self, prompt: str, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed + sum(prompt.encode()))
        return 0.9 * torch.rand((3, *self.size), generator=generator)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """The stand-in in the place of every checkpoint, and an empty current folder."""
    made = StandIn()

    class Loader:
        @staticmethod
        def from_pretrained(model: str | None, **arguments: Any) -> StandIn:
            return made

    monkeypatch.setattr(sadaflow.cli.load, "Pipeline", Loader)
    monkeypatch.chdir(tmp_path)
    return made


def test_generate_writes_the_picture_and_its_recipe(pipe: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--steps", "20", "--seed", "7", "--negative", "blurry", "--guidance", "3.5", "--solver", "euler"]
    assert main(["generate", "red apple", *flags, "--out", "new/apple.png"]) == 0
    with Image.open("new/apple.png") as image:
        values = torch.tensor(list(image.tobytes())).view(16, 24, 3).permute(2, 0, 1) / 255
    torch.testing.assert_close(values, pipe.picture("red apple", 7) + 0.01, atol=0.51 / 255, rtol=0)
    recipe = json.loads(read_text("new/apple.png")["sadaflow"])
    wanted = {"prompt": "red apple", "negative_prompt": "blurry", "steps": 20, "seed": 7, "guidance": 3.5,
              "solver": "euler", "accelerator": "sada", "model": "stand-in", "width": 24, "height": 16,
              "modes": StandIn.modes(20, "sada")}  # fmt: skip
    assert {key: recipe[key] for key in wanted} == wanted
    assert read_text("new/apple.png")["parameters"].startswith("red apple\nNegative prompt: blurry\nSteps: 20, ")
    assert capsys.readouterr().out.startswith("new/apple.png: 20 steps, 14 of 20 evaluations\n")


def test_generate_passes_its_flags_on(pipe: StandIn) -> None:
    assert main(["generate", "a", "b", "--accelerate", "none", "--height", "32", "--width", "64"]) == 0
    (call,) = pipe.calls
    assert call["prompts"] == ["a", "b"]
    assert call["accelerator"] is None
    assert (call["height"], call["width"], call["steps"], call["seed"]) == (32, 64, 50, 0)
    assert (call["solver"], call["guidance"], call["negative_prompt"]) == ("dpmpp2m", 7.5, None)


def test_sdxl_is_told_what_the_flags_say(pipe: StandIn) -> None:
    sizes = ["--original-size", "512", "768", "--crop", "0", "64", "--negative-target-size", "1024", "1024"]
    assert main(["generate", "a", *sizes, "--aesthetic-score", "7", "--out", "a.png"]) == 0
    told = {"original_size": (512, 768), "crop": (0, 64), "negative_target_size": (1024, 1024), "aesthetic_score": 7.0}
    (call,) = pipe.calls
    assert {name: call[name] for name in told} == told
    assert {call[name] for name in ("target_size", "negative_crop", "negative_aesthetic_score")} == {None}
    recipe = json.loads(read_text("a.png")["sadaflow"])
    assert recipe["options"] == json.loads(json.dumps(told))
    assert 'Original size: "512, 768"' in read_text("a.png")["parameters"]


def test_the_grid_is_that_of_every_run(pipe: StandIn) -> None:
    assert main(["generate", "a", "--grid", "karras", "--out", "a.png"]) == 0
    assert main(["compare", "a", "--steps", "20", "--grid", "karras", "--out", "b.png"]) == 0
    named = [call for call in pipe.calls if isinstance(call["solver"], str)]
    assert {call["grid"] for call in named} == set(pipe.grids) == {"karras"}
    assert {call["grid"] for call in pipe.calls if call not in named} == {None}  # a solver has its own
    for name in ("a.png", "b.png"):
        assert json.loads(read_text(name)["sadaflow"])["grid"] == "karras"
        assert "Schedule type: karras, " in read_text(name)["parameters"]


def test_several_prompts_get_numbered_files(pipe: StandIn) -> None:
    assert main(["generate", "a", "b", "--out", "x.png"]) == 0
    assert [path.name for path in sorted(Path.cwd().iterdir())] == ["x-1.png", "x-2.png"]
    assert json.loads(read_text("x-2.png")["sadaflow"])["prompt"] == "b"


def test_guidance_is_the_checkpoints_unless_given(pipe: StandIn) -> None:
    assert main(["generate", "a", "--model", "org/name", "--out", "1.png"]) == 0
    assert main(["generate", "a", "--guidance", "1", "--out", "2.png"]) == 0
    assert [call["guidance"] for call in pipe.calls] == [7.5, 1.0]


def test_the_commit_of_a_hub_snapshot_is_in_the_recipe(pipe: StandIn) -> None:
    pipe.name = "0123456789abcdef" * 2 + "01234567"
    assert main(["generate", "a", "--model", "org/name", "--out", "1.png"]) == 0
    assert json.loads(read_text("1.png")["sadaflow"])["model"] == f"org/name@{pipe.name}"


def test_equal_commands_write_equal_bytes(pipe: StandIn) -> None:
    for name in ("1.png", "2.png"):
        assert main(["generate", "a", "--out", name]) == 0
        pipe.seconds_per_evaluation *= 2
    assert Path("1.png").read_bytes() == Path("2.png").read_bytes()


def test_an_existing_file_is_kept_unless_told(pipe: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.png").write_bytes(b"mine")
    assert "a.png" in error_of(capsys, "generate", "x", "--out", "a.png")
    assert "a.png" in error_of(capsys, "compare", "x", "--out", "a.png")
    assert pipe.calls == [] and Path("a.png").read_bytes() == b"mine"
    assert main(["generate", "x", "--out", "a.png", "--overwrite"]) == 0
    assert Path("a.png").read_bytes() != b"mine"


@pytest.mark.parametrize("command", ["generate", "compare"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no prompt given"]),
        (["x", "--solver", "eulr"], ["eulr", "euler", "dpmpp2m"]),
        (["x", "--accelerate", "warp"], ["warp", "sada", "uniform"]),
        (["x", "--grid", "kerras"], ["--grid", "kerras", "karras"]),
        (["x", "--original-size", "512", "wide"], ["--original-size"]),
        (["x", "--steps", "0"], ["steps", "0"]),
        (["x", "--steps", "many"], ["--steps", "many"]),
        (["x", "--guidance", "strong"], ["--guidance", "strong"]),
        (["x", "--guidance", "nan"], ["--guidance", "nan"]),
        (["x", "--seed", "-1"], ["--seed", "-1"]),
        (["x", "--seed", str(2**63)], ["--seed", str(2**63)]),
        (["x", "--stepz", "3"], ["--stepz"]),
        (["x", "--out", "picture.jpg"], ["picture.jpg", ".png"]),
        (["x", "--dtype", "float8"], ["float8", "float32"]),
        (["x", "--device", "abacus"], ["--device", "abacus", "cpu"]),
        (["x", "--lora", "a.safetensors", "--quantize", "int8"], ["--lora", "leave out --quantize"]),
        (
            ["x", "--lora", "a.safetensors", "--offload", "stream", "--device", "cpu"],
            ["--lora", "leave out --offload stream"],
        ),
    ],
)
def test_bad_arguments_are_refused_before_loading(
    command: str, arguments: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    class NoLoader:
        @staticmethod
        def from_pretrained(model: str | None, **arguments: Any) -> StandIn:
            raise AssertionError("a model was loaded")

    monkeypatch.setattr(sadaflow.cli.load, "Pipeline", NoLoader)
    monkeypatch.chdir(tmp_path)
    message = error_of(capsys, command, *arguments)
    assert all(word in message for word in words), message


def test_no_arguments_show_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert {"generate", "compare"} <= set(capsys.readouterr().out.split())


def test_unknown_command_is_one_line(pipe: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert "generat" in error_of(capsys, "generat", "x")


def test_compare_without_an_accelerator_is_refused(pipe: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert "accelerator" in error_of(capsys, "compare", "x", "--accelerate", "none")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("height=30 is not a positive multiple of 4"),
        FileNotFoundError("no checkpoint there"),
        ConnectionError("the Hub cannot be reached\nTo work offline, pass a folder"),
        FloatingPointError("x0 is not finite at step 3 of 50"),
        ImportError("PIL output needs the extra: pip install 'sadaflow[images]'"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "compare"])
def test_errors_of_the_library_are_one_line(
    command: str, error: Exception, pipe: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: StandIn, *args: Any, **kwargs: Any) -> Made:
        raise error

    monkeypatch.setattr(StandIn, "__call__", fail)
    assert error_of(capsys, command, "x") == " ".join(str(error).split())


def test_debug_shows_where_an_error_came_from(
    pipe: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: StandIn, *args: Any, **kwargs: Any) -> Made:
        raise ValueError("too deep")

    monkeypatch.setattr(StandIn, "__call__", fail)
    assert main(["generate", "x", "--debug"]) == 2
    printed = capsys.readouterr().err
    assert "Traceback" in printed and "in fail" in printed and printed.endswith("error: too deep\n")


def test_ctrl_c_leaves_no_file(
    pipe: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: StandIn, *args: Any, **kwargs: Any) -> Made:
        raise KeyboardInterrupt

    monkeypatch.setattr(StandIn, "__call__", interrupt)
    assert main(["generate", "x"]) == 130
    assert capsys.readouterr().err.count("\n") == 1 and list(Path.cwd().iterdir()) == []


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
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["c-trajectory.png", "c.png"]
    assert read_text("c-trajectory.png") == read_text("c.png")
    printed = capsys.readouterr().out
    assert [line.split("  ")[0] for line in printed.splitlines()[1:6]] == [
        "plain, 20 steps", "14 steps", "14 steps on the plain grid", "every 2nd evaluation", "sada"
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


EMBEDDED = Path(sadaflow.cli.load.__file__).parents[1] / "checkpoints" / "tiny-sd"


def test_embedded_checkpoint_end_to_end(tmp_path: Path) -> None:
    """Both solvers in a process of their own, which is started once."""
    runs = [["--solver", "dpmpp2m", "--out", "50.png"], ["--solver", "euler", "--steps", "24", "--out", "24.png"]]
    code = "import sys; from sadaflow.cli import main; "
    code += f"sys.exit(any([main(['compare', 'red apple', *flags]) for flags in {runs}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    printed = [line.split() for line in done.stdout.splitlines()]
    for steps, rows in ((50, printed[1:6]), (24, printed[9:14])):
        nfe = [float(row[-5]) for row in rows]
        assert nfe[0] == steps and nfe[1] == nfe[2] == math.ceil(nfe[4]) and nfe[4] < 0.8 * steps
        assert all(float(row[-2]) > 15 for row in rows[1:])  # dB: the same picture, not another one
        with Image.open(tmp_path / f"{steps}.png") as picture:
            assert picture.width > 3 * 320
        with Image.open(tmp_path / f"{steps}-trajectory.png") as picture:
            assert picture.width > 640
