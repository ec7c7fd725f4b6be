"""From nothing to the first step, and memory: each side in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from .sides import OURS, THEIRS, Task

_CHILD: Final = Path(__file__).with_name("child.py")
_MEMORY_STEPS: Final = 3


@dataclass(frozen=True)
class Process:
    """What a process loads and calls."""

    folder: Path
    task: Task
    pixels: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    latent: bool = False

    def arguments(self, side: str, memory: bool) -> dict[str, Any]:
        """Of `side`, for the child: JSON."""
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
            "kind": "Pipeline" if ours else "DiffusionPipeline",
            "folder": str(self.folder),
            "dtype": str(self.dtype).removeprefix("torch."),
            "dtype_name": "dtype" if ours else "torch_dtype",
            "device": str(self.device),
            "places": ours,
            "threads": torch.get_num_threads(),
            "memory": memory,
            "first": {**call, steps: 1, latent: "latent"},
            "call": {**call, steps: _MEMORY_STEPS, latent: made},
        }

    def measure(self, side: str, *, memory: bool = False) -> Mapping[str, float]:
        """Seconds to "import" (of which "torch" alone), "load" and make the "first" step, and their "total"; with
        `memory` bytes instead: of the whole "process" and of a "call" beyond the weights.

        Raises ChildProcessError with the last line that a failed process has written.
        """
        command = [sys.executable, "-P", str(_CHILD), json.dumps(self.arguments(side, memory))]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise ChildProcessError(f"{side} in a process of its own failed: {said[0]}")
        found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        if memory:
            return {name: found[name] for name in ("process", "call") if name in found}
        found["import"] += found["torch"]
        return {**found, "total": found["import"] + found["load"] + found["first"]}


def settings(process: Process, sides: tuple[str, ...]) -> dict[str, Callable[[], Mapping[str, float]]]:
    """For `interleaved`: a process for each."""
    return {side: lambda side=side: process.measure(side) for side in sides}  # type: ignore[misc]
