"""Bulk generation in several processes, and in processes killed at random moments."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sadaflow.cli import main
from sadaflow.generation.workers import Shard
from support.bench import MIXTURE
from support.bench import lines as bench_lines
from support.many import command, contents, lines


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


def run_child(
    children: subprocess.Popen[str], arguments: list[str], life: float | None, how: int = signal.SIGKILL
) -> tuple[int, float]:
    """How the command ended, and its seconds since it opened the folder; it gets the signal `how` after `life`."""
    assert children.stdin is not None and children.stdout is not None
    print(json.dumps(arguments), file=children.stdin, flush=True)
    child = int(children.stdout.readline())
    assert children.stdout.readline() == "begun\n"
    began = time.monotonic()
    if life is not None:
        time.sleep(life)
        os.kill(child, how)  # its number is its own until it is waited for
    print(file=children.stdin, flush=True)
    return int(children.stdout.readline()), time.monotonic() - began


SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENDS = {0, 130, -signal.SIGKILL, -signal.SIGTERM}


@pytest.mark.parametrize(
    ("prompts", "kills"), [(24, 3), pytest.param(200, 40, marks=pytest.mark.slow)], ids=["3 kills", "40 kills"]
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
    for number in range(kills):
        life, how = generator.uniform(0, 1.5 * seconds / kills), SIGNALS[number % 3]
        ends.append(run_child(children, arguments("out"), life, how)[0])
    assert set(ends) - {0} and set(ends) <= ENDS
    assert run_child(children, arguments("out"), None)[0] == 0
    assert contents(here / "out") == contents(here / "whole")


@pytest.mark.slow
def test_a_bench_killed_at_random_moments_ends_as_an_undisturbed_one(
    here: Path, children: subprocess.Popen[str]
) -> None:
    (here / "m.toml").write_text(MIXTURE)

    def arguments(out: str) -> list[str]:
        return ["bench", str(here / "m.toml"), "--out", str(here / out), "--resume"]

    status, seconds = run_child(children, arguments("whole"), None)
    assert status == 0
    generator, ends = random.Random(0), []
    for number in range(40):
        ends.append(run_child(children, arguments("out"), generator.uniform(0, seconds / 8), SIGNALS[number % 3])[0])
    assert set(ends) - {0} and set(ends) <= ENDS
    assert run_child(children, arguments("out"), None)[0] == 0
    assert bench_lines(here / "out") == bench_lines(here / "whole")
    assert (here / "out/table.md").read_text() == (here / "whole/table.md").read_text()
    for file in (here / "whole/references").iterdir():
        assert (here / "out/references" / file.name).read_bytes() == file.read_bytes()


CALL = "import sys; from sadaflow.cli import main; sys.exit(main())"
# A process of torchrun that ends itself, once: at the third batch that any process writes.
DYING = """
import os, pathlib, sys
from sadaflow.cli import main
died = pathlib.Path("died")
def watch(event, details):
    if event == "os.rename" and os.environ["RANK"] == "2" and str(details[1]).endswith(".jsonl") and not died.exists():
        died.touch()
        os.kill(os.getpid(), 9)
sys.addaudithook(watch)
sys.exit(main())
"""


@pytest.mark.slow
def test_a_process_of_four_dies_and_torchrun_starts_them_again(here: Path, checkpoint: Path) -> None:
    Path("many.txt").write_text("".join(f"prompt {i}\n" for i in range(40)))

    def arguments(out: str) -> list[str]:
        return command(checkpoint, "--batch", "2", prompts="many.txt", out=out)

    assert main(arguments("whole")) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4", "--max-restarts=2"]
    done = subprocess.run(
        [*torchrun, "--no-python", sys.executable, "-c", DYING, *arguments("out")],
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0 and Path("died").exists(), done.stderr
    assert contents(here / "out") == contents(here / "whole")


def _netns(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True).returncode == 0


@pytest.fixture
def nodes() -> Iterator[tuple[str, str]]:
    """Two network namespaces with an interface each, as two machines; they share the disk."""
    names = (f"sadaflow-{os.getpid()}-a", f"sadaflow-{os.getpid()}-b")
    made = shutil.which("ip") is not None and all(_netns("netns", "add", name) for name in names)
    try:
        ends = [f"v{os.getpid()}{end}" for end in "ab"]
        made = made and _netns("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1],
                               "netns", names[1])  # fmt: skip
        for number, (name, end) in enumerate(zip(names, ends, strict=True), 1):
            made = made and _netns("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", end)
            made = made and all(_netns("-n", name, "link", "set", link, "up") for link in (end, "lo"))
        if not made:
            pytest.skip("no rights to make network namespaces")
        yield names
    finally:
        if shutil.which("ip") is not None:
            for name in names:
                _netns("netns", "delete", name)


@pytest.mark.slow
def test_two_nodes_write_what_one_process_writes(here: Path, checkpoint: Path, nodes: tuple[str, str]) -> None:
    assert main(command(checkpoint, "--batch", "2", out="one")) == 0
    arguments = command(checkpoint, "--batch", "2", out="two")
    started = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run", "--nnodes=2",
             "--nproc-per-node=2", f"--node-rank={rank}", "--master-addr=10.77.0.1", "--master-port=29577",
             "--no-python", sys.executable, "-c", CALL, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank, name in enumerate(nodes)
    ]  # fmt: skip
    for process in started:
        out, _ = process.communicate(timeout=600)
        assert process.returncode == 0, out
    assert contents(here / "two") == contents(here / "one")


def _start(ready: Any, arguments: list[str]) -> None:
    ready.wait()
    os._exit(main(arguments))


@pytest.mark.slow
def test_of_two_commands_on_one_folder_one_works_a_hundred_times(here: Path, checkpoint: Path) -> None:
    """Forked from a process that has imported everything, so that they meet."""
    assert main(command(checkpoint, out="one")) == 0
    fork = multiprocessing.get_context("fork")
    for trial in range(100):
        ready = fork.Barrier(2)
        pair = [fork.Process(target=_start, args=(ready, command(checkpoint, out=str(trial)))) for _ in range(2)]
        for process in pair:
            process.start()
        for process in pair:
            process.join(300)
        assert sorted(str(process.exitcode) for process in pair) == ["0", "2"]
        assert contents(here / str(trial)) == contents(here / "one")
