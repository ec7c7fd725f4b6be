"""Measures start-up time and memory, each side in its own process."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from .sides import OURS, THEIRS
from .task import Task

_CHILD: Final = Path(__file__).with_name("child.py")
_MEMORY_STEPS: Final = 3


@dataclass(frozen=True)
class Process:
    """What a process loads and calls.

    Attributes:
        folder: The checkpoint.
        task: What is sampled.
        pixels: Height and width of the pictures.
        dtype: Type of the weights.
        device: Where the networks run.
        latent: Whether the decoder is left out.
    """

    folder: Path
    task: Task
    pixels: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    latent: bool = False

    def arguments(self, side: str, memory: bool) -> dict[str, Any]:
        """Returns the argument of the child process for a side, as JSON values."""
        ours, task = side == OURS, self.task
        height, width = self.pixels
        made = "latent" if self.latent else "tensor" if ours else "pt"
        steps, guidance, latent = (
            ("steps", "guidance", "output") if ours else ("num_inference_steps", "guidance_scale", "output_type")
        )
        call: dict[str, Any] = {"prompt": list(task.prompts), guidance: task.guidance, "height": height, "width": width}
        if task.tokens is not None:
            call["max_sequence_length"] = task.tokens
        if ours:
            call["progress"] = False
        return {
            "module": OURS if ours else THEIRS,
            "class": "Pipeline" if ours else "DiffusionPipeline",
            "folder": str(self.folder),
            "dtype": str(self.dtype).removeprefix("torch."),
            "dtype_name": "dtype" if ours else "torch_dtype",
            "device": str(self.device),
            "to_device": not ours,
            "threads": torch.get_num_threads(),
            "memory": memory,
            "first": {**call, steps: 1, latent: "latent"},
            "call": {**call, steps: _MEMORY_STEPS, latent: made},
        }

    def measure(self, side: str, *, memory: bool = False) -> Mapping[str, float]:
        """Runs a process and measures it.

        Args:
            side: `OURS` or `THEIRS`.
            memory: Measure memory instead of seconds.

        Returns:
            Seconds to "import" (of which "torch" alone), to "load" and to compute the "first" step, and their "total".
            With `memory`: peak bytes of the "process", and of a "call" beyond the weights.

        Raises:
            ChildProcessError: If the process fails; with the last line that it wrote to stderr.
        """
        command = [sys.executable, "-P", str(_CHILD), json.dumps(self.arguments(side, memory))]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise ChildProcessError(f"{side} in its own process failed: {last[0]}")
        found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        if memory:
            return {name: found[name] for name in ("process", "call") if name in found}
        found["import"] += found["torch"]
        return {**found, "total": found["import"] + found["load"] + found["first"]}


def settings(process: Process, sides: tuple[str, ...]) -> dict[str, Callable[[], Mapping[str, float]]]:
    """Returns what `interleaved` runs: a process per side."""
    return {side: lambda side=side: process.measure(side) for side in sides}  # type: ignore[misc]
