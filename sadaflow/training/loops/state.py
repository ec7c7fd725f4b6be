"""State of a resumable training: clock, averaged weights, log and checkpoint files."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ...files.atomic import write_whole

M = TypeVar("M", bound=nn.Module)


def channels_last(module: M) -> M:
    """Convert the convolutions of `module` to channels-last layout, which is fastest on CPUs; returns `module`."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


class Log:
    """Writes lines with the time of day to the terminal and to a file.

    Args:
        path: The file; lines are appended.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def __call__(self, line: str) -> None:
        stamped = f"{time.strftime('%H:%M:%S')} {line}"
        print(stamped, flush=True)
        with self._path.open("a") as file:
            file.write(stamped + "\n")


class Clock:
    """Counts the minutes of training, without pauses between runs.

    Args:
        limit: Minutes after which the training ends.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.minutes = 0.0
        self._last = time.monotonic()

    def tick(self) -> None:
        """Add the time since the last call, but at most one minute: the machine may have been suspended."""
        now = time.monotonic()
        self.minutes += min(now - self._last, 60.0) / 60
        self._last = now

    @property
    def progress(self) -> float:
        """Elapsed fraction of the limit."""
        return self.minutes / self.limit


class Ema:
    """Exponential moving average of a module's parameters, with decay min(decay, (1 + n) / (10 + n)) at update n."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._average = [parameter.detach().clone() for parameter in module.parameters()]

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Update the average with the current parameters."""
        self.updates += 1
        rate = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, [parameter.detach() for parameter in module.parameters()], rate)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Overwrite the parameters of `module` with the average."""
        for parameter, average in zip(module.parameters(), self._average, strict=True):
            parameter.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        """The number of updates and the average."""
        return {"updates": self.updates, "average": self._average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.updates, self._average = state["updates"], list(state["average"])


def write_value(path: Path, value: Any) -> None:
    """Save a value with torch.save; an interruption leaves the old file or the new one."""
    write_whole(path, lambda file: torch.save(value, file), overwrite=True)


def save_checkpoint(path: Path, step: int, parts: Mapping[str, Any], clock: Clock, **facts: float) -> None:
    """Write the state of a training.

    Args:
        path: The file; `facts` go to the file of the same name with the ending .json.
        step: Number of steps done.
        parts: Modules, optimisers and averages by name.
        clock: The clock.
        facts: Numbers for the model card.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    write_value(path, {"step": step, "minutes": clock.minutes, "states": states})
    facts = {"steps": step, "minutes": round(clock.minutes, 1), **facts}
    path.with_suffix(".json").write_text(json.dumps(facts) + "\n")


def load_checkpoint(path: Path, parts: Mapping[str, Any], clock: Clock) -> int:
    """Restore what `save_checkpoint` wrote; returns the step, or 0 if there is no file."""
    if not path.is_file():
        return 0
    stored = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(stored["states"][name])
    clock.minutes = stored["minutes"]
    return int(stored["step"])
