"""Folders of bulk runs, and a stand-in for the sampler whose files depend on who shares a batch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sadaflow.files.metadata import Recipe
from sadaflow.generation.batches import Made, sample_many
from sadaflow.generation.prompt_file import Prompt
from sadaflow.generation.run_folder import Folder
from sadaflow.generation.workers import Shard

QUICK = ["--steps", "2", "--accelerate", "none", "--guidance", "1", "--height", "16", "--width", "16"]


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder, by path."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of a manifest."""
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]


@dataclass
class StandIn:
    """Writes files that depend on which prompts share a batch, as the last bits of a network's output do."""

    bad: frozenset[int] = frozenset()  # indices of prompts whose output is NaN
    room: int = 10**9  # samples that fit into memory
    calls: list[list[int]] = field(default_factory=list)
    stop_after: int = 10**9
    ending: str = ".png"

    def recipe(self, prompt: Prompt) -> Recipe:
        return Recipe(prompt.prompt, "stand-in", 5, prompt.seed, 0, 0)

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
    return [Prompt(i, f"{i:06d}", f"prompt {i}", 7 + i) for i in range(count)]


def fill(
    path: Path, count: int, batch: int, maker: StandIn, shard: Shard = Shard(), resume: bool = False  # noqa: B008
) -> Folder:
    """Samples `count` prompts into a folder."""
    prompts = prompts_of(count)
    folder = Folder(path, {"batch": batch, "weights": "0"}, prompts, batch)
    with folder.begin(resume) if shard.leads else folder.join():
        sample_many(folder, prompts, batch, maker, shard)
    return folder


def command(checkpoint: Path, *arguments: str, prompts: str = "p.txt", out: str = "out") -> list[str]:
    return ["generate", "--prompts", prompts, "--out", out, "--model", str(checkpoint), *QUICK, *arguments]
