"""The recipe of a run, which its files carry."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """What repeats one image or sound. Holds no clock time, so that equal runs give equal bytes."""

    prompt: str
    model: str
    steps: int
    seed: int
    width: int
    height: int
    negative_prompt: str | None = None
    solver: str | None = None  # None: what the checkpoint's scheduler config names
    grid: str | None = None  # None: likewise
    guidance: float | None = None  # None: what the checkpoint recommends
    accelerator: str | None = None  # None: every evaluation is made
    nfe: float | None = None  # network evaluations made; a conditional-only one counts 0.5
    modes: Sequence[str] = ()  # what was done at each step
    options: Mapping[str, Any] = field(default_factory=dict)  # what else was asked for, by its flags
    versions: Mapping[str, str] = field(default_factory=dict)

    def parameters(self) -> str:
        """The `parameters` text that image viewers and web UIs in the tradition of A1111 show and parse."""
        fields = {
            "Steps": self.steps,
            "Sampler": self.solver,
            "Schedule type": self.grid,
            "CFG scale": None if self.guidance is None else f"{self.guidance:g}",
            "Seed": self.seed,
            "Size": f"{self.width}x{self.height}",
            "Model": self.model,
            "Accelerator": self.accelerator,
            "NFE": None if self.nfe is None else f"{self.nfe:g}",
            **{name.replace("_", " ").capitalize(): _joined(value) for name, value in self.options.items()},
            **{f"{name} version": version for name, version in self.versions.items()},
        }
        lines = [self.prompt]
        if self.negative_prompt:
            lines.append(f"Negative prompt: {self.negative_prompt}")
        lines.append(", ".join(f"{key}: {_quoted(str(value))}" for key, value in fields.items() if value is not None))
        return "\n".join(lines)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    def chunks(self) -> dict[str, str]:
        """The two text chunks of a PNG file: `parameters` for viewers, `sadaflow` (JSON) for repeating the run."""
        return {"parameters": self.parameters(), "sadaflow": self.to_json()}


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _quoted(value: str) -> str:
    """A value that would break the comma-separated line is written as a JSON string, as A1111's parser expects."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',:"\n') else value
