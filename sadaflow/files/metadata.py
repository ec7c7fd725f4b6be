"""The record of a run that its PNG and WAV files carry, from which it can be repeated."""

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self


@dataclass(frozen=True)
class Recipe:
    """What repeats one image or sound. It holds no clock time, so that equal runs write equal bytes.

    Attributes:
        prompt: The prompt.
        model: The checkpoint: its name, or its Hub id and commit.
        steps: Steps of the solver.
        seed: Seed of the start noise.
        width: Width in pixels (of a sound: mel bands).
        height: Height in pixels (of a sound: spectrogram frames).
        negative_prompt: The negative prompt, if any.
        solver: Name of the solver; None is the one that the checkpoint's scheduler config names.
        grid: Name of the time grid; None is the scheduler config's.
        guidance: Scale of guidance; None is what the checkpoint recommends.
        accelerator: Name of the accelerator; None evaluates the network at every step.
        nfe: Network evaluations made; one of the conditional branch alone counts 0.5.
        modes: What was done at each step.
        options: Further arguments that were given, and how the checkpoint was loaded, by name.
        versions: Versions of the libraries, by name.
    """

    prompt: str
    model: str
    steps: int
    seed: int
    width: int
    height: int
    negative_prompt: str | None = None
    solver: str | None = None
    grid: str | None = None
    guidance: float | None = None
    accelerator: str | None = None
    nfe: float | None = None
    modes: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, arguments: Mapping[str, Any], options: Mapping[str, Any], **known: Any) -> Self:
        """The record of a run.

        Args:
            arguments: The arguments of the call, by name. Those that are fields are recorded as such, further ones in
                `options`.
            options: Further entries of `options`.
            known: Fields that are not arguments, or take their place.
        """
        names = {item.name for item in fields(cls)}
        own = {name: value for name, value in arguments.items() if name in names}
        further = {name: value for name, value in arguments.items() if name not in names}
        return cls(**{**own, "options": {**further, **options}, **known})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: If it is not such a record.
        """
        try:
            found = json.loads(text)
            return cls(**{**found, "modes": tuple(found.get("modes", ()))})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{reprlib.repr(text)} is not the record of a run: {error}") from error

    def arguments(self) -> dict[str, Any]:
        """The recorded arguments of the call, by name, among further entries."""
        return {item.name: getattr(self, item.name) for item in fields(self)} | dict(self.options)

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
        """The record as a JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def chunks(self) -> dict[str, str]:
        """The text chunks of a PNG file: `parameters` for image viewers, `sadaflow` (JSON) to repeat the run."""
        return {"parameters": self.parameters(), "sadaflow": self.to_json()}


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _quoted(value: str) -> str:
    """A value that would break the comma-separated line is written as a JSON string, as A1111's parser expects."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',:"\n') else value
