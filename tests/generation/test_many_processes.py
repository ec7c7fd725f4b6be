"""Bulk generation in several processes, and in processes killed at random moments."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sadaflow.cli import main
from sadaflow.generation.workers import Shard
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
