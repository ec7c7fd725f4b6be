"""Prompts by the thousand: the same files whoever samples them, however often they are stopped, whatever goes wrong."""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

import sadaflow.families.prompt_encoder
from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.files.folder_lock import occupied
from sadaflow.files.metadata import Recipe
from sadaflow.files.png import read_text
from sadaflow.files.wav import read_comment
from sadaflow.generation.batches import Made, sample_many, share_size, threads
from sadaflow.generation.prompt_file import Prompt
from sadaflow.generation.run_folder import Folder
from sadaflow.generation.workers import Shard
from support.checkpoints import musicldm, stable_diffusion

QUICK = ["--steps", "2", "--accelerate", "none", "--guidance", "1", "--height", "16", "--width", "16"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]


# The loop and its folder, with a stand-in for the sampler -----------------------------------------------------------


@dataclass
class StandIn:
    """Its files depend on who is sampled together, as those of a network do in their last bits."""

    bad: frozenset[int] = frozenset()  # answers NaN
    room: int = 10**9  # samples that fit into memory
    calls: list[list[int]] = field(default_factory=list)
    stop_after: int = 10**9
    ending: str = ".png"

    def recipe(self, prompt: Prompt) -> Recipe:
        return Recipe(prompt.text, "stand-in", 5, prompt.seed, 0, 0)

    def __call__(self, prompts: Sequence[Prompt]) -> list[Made]:
        if len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        self.calls.append([prompt.index for prompt in prompts])
        if len(prompts) > self.room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB at 0x7f")
        if any(prompt.index in self.bad for prompt in prompts):
            raise FloatingPointError("x0 is not finite")
        return [Made(repr((prompt, prompts)).encode(), self.recipe(prompt)) for prompt in prompts]


def prompts_of(count: int) -> list[Prompt]:
    return [Prompt(i, f"prompt {i}", 7 + i, None, f"{i:06d}") for i in range(count)]


def fill(
    path: Path, count: int, batch: int, maker: StandIn, shard: Shard = Shard(), resume: bool = False  # noqa: B008
) -> Folder:
    folder = Folder(path, {"batch": batch, "weights": "0"}, -(-count // batch))
    if shard.leads:
        folder.begin(resume)
    sample_many(folder, prompts_of(count), batch, maker, shard)
    return folder


@settings(derandomize=True, deadline=None, max_examples=12)
@given(
    count=st.integers(1, 20),
    batch=st.integers(1, 7),
    starts=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4)), max_size=4),
    bad=st.frozensets(st.integers(0, 19), max_size=3),
    room=st.integers(1, 7),
)
def test_whoever_samples_and_however_often_stopped_the_files_are_the_same(
    count: int, batch: int, starts: list[tuple[int, int]], bad: frozenset[int], room: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    """`starts`: of how many processes a start consists, and after how many calls each is interrupted."""
    root = tmp_path_factory.mktemp("many")
    whole = fill(root / "whole", count, batch, StandIn(bad, room))
    tally = whole.merge()
    assert tally is not None and (tally.lines, tally.failed) == (count, sorted(i for i in bad if i < count))
    for size, stop in [*starts, (2, 10**9)]:
        for rank in range(size):
            try:
                maker = StandIn(bad, room, stop_after=stop)
                folder = fill(root / "parts", count, batch, maker, Shard(rank, size), resume=True)
            except KeyboardInterrupt:
                continue
            folder.merge()
    assert contents(root / "parts") == contents(root / "whole")
    shutil.rmtree(root)


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
def test_a_folder_that_another_command_fills_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "a", 4, 2, StandIn())
    part = tmp_path / "a" / ".000001.png.host.1.part"
    part.write_bytes(b"half")
    with occupied(tmp_path / "a"), occupied(tmp_path / "a"):  # two processes of one command
        with pytest.raises(BlockingIOError, match="another command is writing to the folder"):
            fill(tmp_path / "a", 4, 2, StandIn(), resume=True)
        assert part.exists()
    fill(tmp_path / "a", 4, 2, StandIn(), resume=True)
    assert not part.exists()


def test_only_what_is_missing_is_sampled(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "a", 10, 2, first := StandIn(stop_after=3))
    fill(tmp_path / "a", 10, 2, second := StandIn(), resume=True)
    assert first.calls + second.calls == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    fill(tmp_path / "a", 10, 2, third := StandIn(), resume=True)
    assert third.calls == []


def test_processes_share_the_batches_and_the_last_merges(tmp_path: Path) -> None:
    makers = [StandIn() for _ in range(3)]
    for rank, maker in enumerate(makers):
        tally = fill(tmp_path / "a", 9, 2, maker, Shard(rank, 3)).merge()
        assert (tally is None) == (rank < 2)
    assert [maker.calls for maker in makers] == [[[0, 1], [6, 7]], [[2, 3], [8]], [[4, 5]]]
    assert [share_size(9, 2, Shard(rank, 3)) for rank in range(3)] == [4, 3, 2]
    assert [line["index"] for line in lines(tmp_path / "a")] == list(range(9))


def test_a_prompt_that_fails_is_told_of_and_holds_up_no_other(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", 8, 4, maker := StandIn(frozenset({1})))
    tally = folder.merge()
    assert maker.calls == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3], [4, 5, 6, 7]]
    assert tally is not None and tally.failed == [1]
    found = lines(folder.path)
    assert [(line["error"], line["together"]) for line in found[:4]] == [
        (None, 1), ("FloatingPointError: x0 is not finite", 1), (None, 2), (None, 2)
    ]  # fmt: skip
    assert found[1]["file"] is None and found[1]["prompt"] == "prompt 1" and found[1]["nfe"] is None
    assert not (folder.path / "000001.png").exists()


def test_failed_prompts_are_tried_again_with_their_batch(tmp_path: Path) -> None:
    fill(tmp_path / "a", 8, 4, StandIn(frozenset({1}))).merge()
    folder = fill(tmp_path / "a", 8, 4, maker := StandIn(), resume=True)
    assert maker.calls == [[0, 1, 2, 3]]
    assert not folder.manifest.exists()  # the old one was of the failure
    assert (tally := folder.merge()) is not None and tally.failed == []
    fill(tmp_path / "b", 8, 4, StandIn()).merge()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_batch_that_does_not_fit_into_memory_is_halved(tmp_path: Path) -> None:
    said: list[str] = []
    folder = Folder(tmp_path / "a", {}, 1)
    folder.begin(False)
    sample_many(folder, prompts_of(5), 5, StandIn(room=2), Shard(), say=said.append)
    folder.merge()
    assert [line["together"] for line in lines(folder.path)] == [2, 2, 1, 2, 2]
    assert said[0].startswith("prompts 0 to 4: not enough memory") and len(said) == 2
    assert "0x7f" not in folder.manifest.read_text()  # nothing that differs from run to run


def test_other_errors_of_the_runtime_are_not_taken_for_a_bad_prompt(tmp_path: Path) -> None:
    class Broken(StandIn):
        def __call__(self, prompts: Sequence[Prompt]) -> list[Made]:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        fill(tmp_path / "a", 4, 2, Broken())


@pytest.mark.parametrize("count", range(6))
def test_a_full_disk_loses_nothing_that_was_finished(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the `count`-th file behind the header."""
    fill(tmp_path / "whole", 4, 2, StandIn()).merge()
    files, sync = iter(range(100)), os.fsync

    def full(descriptor: int) -> None:
        if next(files) > count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as small:
        small.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            fill(tmp_path / "a", 4, 2, StandIn()).merge()
            raise AssertionError
    kept = contents(tmp_path / "a")
    assert not any(name.endswith(".part") for name in kept)
    fill(tmp_path / "a", 4, 2, again := StandIn(), resume=True).merge()
    assert len(again.calls) == (2 if count < 3 else 1)
    assert contents(tmp_path / "a") == contents(tmp_path / "whole")
    assert kept.items() <= contents(tmp_path / "whole").items()


@pytest.mark.parametrize("empty", [False, True])
def test_a_vanished_folder_is_not_made_again(empty: bool, tmp_path: Path) -> None:
    """As when a disk is taken away, which may leave an empty folder in its place."""
    path = tmp_path / "a"

    class Vanishing(StandIn):
        def __call__(self, prompts: Sequence[Prompt]) -> list[Made]:
            if self.calls:
                shutil.rmtree(path)
                if empty:
                    path.mkdir()
            return super().__call__(prompts)

    with pytest.raises(FileNotFoundError, match="has vanished while it was filled"):
        fill(path, 6, 2, Vanishing())
    assert path.exists() == empty and contents(tmp_path) == {}


def test_damage_by_hand_is_repaired(tmp_path: Path) -> None:
    fill(tmp_path / "a", 12, 2, StandIn()).merge()
    before = contents(tmp_path / "a")
    (tmp_path / "a" / "000001.png").unlink()
    (tmp_path / "a" / "batches" / "000001.jsonl").write_text("{")
    (tmp_path / "a" / "batches" / "000002.jsonl").write_text("{}\n")
    (tmp_path / "a" / ".000003.png.host.1.part").write_text("torn")
    fill(tmp_path / "a", 12, 2, maker := StandIn(), resume=True).merge()
    assert maker.calls == [[0, 1], [2, 3], [4, 5]] and contents(tmp_path / "a") == before


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion(tmp_path_factory.mktemp("many") / "tiny", "sd15")


@pytest.fixture
def here(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with a file of five prompts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("fox\nowl\nred apple\nhouse\nkey\n")
    return tmp_path


def command(checkpoint: Path, *arguments: str, prompts: str = "p.txt", out: str = "out") -> list[str]:
    return ["generate", "--prompts", prompts, "--out", out, "--model", str(checkpoint), *QUICK, *arguments]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err


def test_a_file_of_prompts_becomes_pictures_and_a_manifest(
    here: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [
        {"prompt": "fox", "id": "the-fox"},
        {"prompt": "owl", "seed": 40},
        {"prompt": "key", "negative_prompt": "rust"},
    ]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, entries)))
    arguments = ["--seed", "9", "--negative", "blur", "--guidance", "3", "--batch", "3"]
    assert main(command(checkpoint, *arguments, prompts="p.jsonl")) == 0
    assert capsys.readouterr().out == "out/manifest.jsonl: 3 prompts, 0 of them failed\n"
    found = lines(here / "out")
    names = ["the-fox.png", "000001.png", "000002.png"]
    assert [line["file"] for line in found] == names
    assert [(line["index"], line["seed"], line["negative_prompt"]) for line in found] == [
        (0, 9, "blur"), (1, 40, "blur"), (2, 11, "rust")
    ]  # fmt: skip
    pipe = Pipeline.from_pretrained(checkpoint)
    call: dict[str, Any] = {"steps": 2, "solver": "dpmpp2m", "guidance": 3.0, "height": 16, "width": 16}
    with threads(1):
        out = pipe(["fox", "owl"], seed=[9, 40], negative_prompt="blur", **call).images
        out += pipe("key", seed=11, negative_prompt="rust", **call).images
    for line, picture in zip(found, out, strict=True):
        file = here / "out" / line["file"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == line["sha256"]
        with Image.open(file) as image:
            assert image.tobytes() == picture.tobytes()
        recipe = json.loads(read_text(file)["sadaflow"])
        assert recipe.items() <= line.items() and recipe["nfe"] == 2 and recipe["modes"] == ["full"] * 2
    others = {"run.json", "manifest.jsonl", "batches/000000.jsonl"}
    assert contents(here / "out").keys() == others | set(names)


def test_sounds(here: Path, tmp_path: Path) -> None:
    music = musicldm(tmp_path / "music")
    arguments = ["generate", "--prompts", "p.txt", "--out", "out", "--model", str(music), "--steps", "1"]
    assert main([*arguments, "--accelerate", "none"]) == 0
    assert [line["file"] for line in lines(here / "out")] == [f"00000{i}.wav" for i in range(5)]
    assert json.loads(read_comment(here / "out" / "000002.wav"))["prompt"] == "red apple"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "x", "--resume"], ["--resume", "--prompts FILE"]),
        (["generate", "x", "--batch", "2"], ["--batch", "--prompts FILE"]),
        (["generate", "x", "--prompts", "p.txt", "--out", "out"], ["twice", "'x'", "p.txt"]),
        (["generate", "--prompts", "p.txt"], ["--out FOLDER"]),
        (["generate", "--prompts", "p.txt", "--out", "out", "--overwrite"], ["--overwrite", "--resume"]),
        (["generate", "--prompts", "p.txt", "--out", "out", "--batch", "0"], ["--batch", "0"]),
        (["generate", "--prompts", "p.txt", "--out", "out", "--threads", "0"], ["--threads", "0"]),
        (["generate", "--prompts", "p.txt", "--out", "out", "--steps", "0"], ["--steps", "0"]),
        (["generate", "--prompts", "none.txt", "--out", "out"], ["none.txt"]),
        (["generate", "--prompts", "bad.csv", "--out", "out"], ["bad.csv", "line 2", "'steps'"]),
        (["generate", "--prompts", "p.txt", "--out", "p.txt"], ["p.txt", "folder"]),
        (["generate", "--prompts", "p.txt", "--out", "."], ["'.'", "not empty", "another folder"]),
        (["generate", "--prompts", "p.txt", "--out", ".", "--resume"], ["'.'", "not empty", "another folder"]),
        (["generate", "--prompts", "p.txt", "--out", "out", "--seconds", "3"], ["--seconds", "pictures"]),
        (["generate", "--prompts", "p.txt", "--out", "out", "--height", "30"], ["height=30"]),
        (["compare", "--prompts", "p.txt"], ["--prompts"]),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    arguments: list[str], words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.csv").write_text("prompt,steps\nx,3\n")
    before = contents(here)
    message = refused(capsys, *arguments)
    assert all(word in message for word in words), message
    assert contents(here) == before and not (here / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([], ["not empty", "--resume"]),
        (["--resume", "--steps", "3"], ["settings.steps (then 2, now 3)"]),
        (["--resume", "--seed", "1"], ["prompts.sha256"]),
        (["--resume", "--batch", "2"], ["batch (then 4, now 2)"]),
        (["--resume", "--threads", "2"], ["threads (then 1, now 2)"]),
        (["--resume", "--model", "other"], ["weights"]),
        (["--resume", "--negative", "blur"], ['settings.negative_prompt (then null, now "blur")']),
    ],
)
def test_a_folder_begun_otherwise_is_refused(
    change: list[str], words: list[str], here: Path, checkpoint: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = shutil.copytree(checkpoint, tmp_path / "a" / "tiny")
    stop = Stop(after=1)
    with monkeypatch.context() as stopped:
        stopped.setattr(Pipeline, "__call__", stop(Pipeline.__call__))
        assert main(command(model)) == 130
    if "other" in change:  # other weights under the same name
        change = ["--resume"]
        weights = model / "unet" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(weights)
        save_file(tensors | {"conv_out.bias": tensors["conv_out.bias"] + 1e-6}, weights)
    before = contents(here)
    message = refused(capsys, *command(model, *change))
    assert all(word in message for word in words), message
    assert contents(here) == before


@dataclass
class Stop:
    """Makes a call of a pipeline raise from the `after`-th on, or for one prompt."""

    after: int = 0
    error: BaseException = field(default_factory=KeyboardInterrupt)
    prompt: str | None = None
    calls: int = 0

    def __call__(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(pipe: Pipeline, prompts: list[str], **arguments: Any) -> Any:
            self.calls += 1
            if self.calls > self.after and (self.prompt is None or self.prompt in prompts):
                raise self.error
            return original(pipe, prompts, **arguments)

        return call


def test_ctrl_c_says_how_to_resume(
    here: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command(checkpoint, "--batch", "2", out="whole")) == 0
    with monkeypatch.context() as stopped:
        stopped.setattr(Pipeline, "__call__", Stop(after=2)(Pipeline.__call__))
        assert main(command(checkpoint, "--batch", "2")) == 130
    assert "--resume" in capsys.readouterr().err and not (here / "out" / "manifest.jsonl").exists()
    assert main(command(checkpoint, "--batch", "2", "--resume")) == 0
    assert contents(here / "out") == contents(here / "whole")


def test_a_bad_prompt_is_said_aloud(
    here: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose embedding is not finite: the sampling loop itself stops at it."""
    encode = sadaflow.families.prompt_encoder.ClipText.encode

    def spoiled(self: Any, prompts: Sequence[str]) -> torch.Tensor:
        spoil = torch.tensor([float("nan") if prompt == "owl" else 0.0 for prompt in prompts])
        return encode(self, prompts) + spoil.view(-1, 1, 1)

    monkeypatch.setattr(sadaflow.families.prompt_encoder.ClipText, "encode", spoiled)
    assert main(command(checkpoint)) == 1
    printed = capsys.readouterr()
    assert printed.out == "out/manifest.jsonl: 5 prompts, 1 of them failed\n"
    assert "prompt 1 failed, FloatingPointError: x0 is not finite at step 0" in printed.err
    assert "error: failed: prompts 1;" in printed.err and "--resume" in printed.err
    assert [line["file"] is None for line in lines(here / "out")] == [False, True, False, False, False]


def test_a_full_disk_is_one_error_and_a_hint(
    here: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(Pipeline, "__call__", Stop(after=1, error=error)(Pipeline.__call__))
    message = refused(capsys, *command(checkpoint))
    assert "error: [Errno 28] No space left on device" in message and "--resume continues it" in message
    assert len(list((here / "out").glob("*.png"))) == 4


# Processes -----------------------------------------------------------------------------------------------------------


def test_two_processes_write_what_one_writes(here: Path, checkpoint: Path) -> None:
    """The one with as many threads as it has cores outside of the sampling, the two with one each."""
    assert main(command(checkpoint, "--batch", "2", out="one")) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    call = "import sys; from sadaflow.cli import main; sys.exit(main())"
    arguments = command(checkpoint, "--batch", "2", out="two")
    done = subprocess.run(
        [*torchrun, sys.executable, "-c", call, *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert contents(here / "two") == contents(here / "one")
    assert done.stdout.count("5 prompts, 0 of them failed") >= 1


def test_each_process_of_a_machine_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Shard().device("cuda") == "cuda" and Shard().device(None) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    second = Shard(5, 8, local_rank=1)
    assert [second.device(name) for name in (None, "cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:1", "cuda:0", "cpu"]


@pytest.fixture(scope="module")
def children() -> Iterator[subprocess.Popen[str]]:
    """Starts the command line in processes of its own (see many_child.py)."""
    script = Path(__file__).parents[1] / "support" / "many_child.py"
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()


def run_child(children: subprocess.Popen[str], arguments: list[str], life: float | None) -> tuple[int, float]:
    """How the command ended, and its seconds since it opened the folder; kill -9 after `life` of them."""
    assert children.stdin is not None and children.stdout is not None
    print(json.dumps(arguments), file=children.stdin, flush=True)
    child = int(children.stdout.readline())
    assert children.stdout.readline() == "begun\n"
    began = time.monotonic()
    if life is not None:
        time.sleep(life)
        os.kill(child, signal.SIGKILL)  # its number is its own until it is waited for
    print(file=children.stdin, flush=True)
    return int(children.stdout.readline()), time.monotonic() - began


@pytest.mark.parametrize(
    ("prompts", "kills"), [(24, 3), pytest.param(200, 20, marks=pytest.mark.slow)], ids=["3 kills", "20 kills"]
)
def test_killed_at_random_moments_the_files_are_those_of_an_undisturbed_run(
    prompts: int, kills: int, here: Path, checkpoint: Path, children: subprocess.Popen[str]
) -> None:
    Path("many.txt").write_text("".join(f"prompt {i}\n" for i in range(prompts)))

    def arguments(out: str) -> list[str]:
        return command(checkpoint, "--resume", prompts=str(here / "many.txt"), out=str(here / out))

    status, seconds = run_child(children, arguments("whole"), None)
    assert status == 0 and len(lines(here / "whole")) == prompts
    generator, ends = random.Random(0), []
    for _ in range(kills):
        ends.append(run_child(children, arguments("out"), generator.uniform(0, 1.5 * seconds / kills))[0])
    assert -signal.SIGKILL in ends and set(ends) <= {0, -signal.SIGKILL}
    assert run_child(children, arguments("out"), None)[0] == 0
    assert contents(here / "out") == contents(here / "whole")
