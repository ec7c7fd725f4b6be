"""Metadata of a run, which is stored in its output files."""

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self


@dataclass(frozen=True)
class Recipe:
    """The settings that reproduce one image or sound. They include no time of day, so equal runs give equal bytes.

    Attributes:
        prompt: The prompt.
        model: Name of the checkpoint, with its commit if it comes from the Hub.
        steps: Number of steps.
        seed: Seed of the start noise.
        width: Width in pixels; mel bands of a sound.
        height: Height in pixels; spectrogram frames of a sound.
        negative_prompt: The negative prompt, if any.
        solver: Name of the solver; None is that of the checkpoint's scheduler config.
        grid: Name of the time grid; None as for `solver`.
        guidance: Guidance strength, or the text of a guidance rule; None is what the checkpoint recommends.
        accelerator: The accelerator; None evaluates the network at every step.
        nfe: Number of network evaluations; an evaluation of the conditional branch alone counts 0.5.
        modes: Name of the mode of each step.
        options: Further options of the command line, by their names.
        versions: Versions of libraries, by their names.
        solver_config: The solver with its grid, schedule and noise, from which it can be made again to the last bit.
        accelerator_config: The accelerator with its settings, likewise.
        guidance_config: The guidance rule, likewise, if it is more than a number.
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
    guidance: float | str | None = None
    accelerator: str | None = None
    nfe: float | None = None
    modes: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    solver_config: Mapping[str, Any] | None = None
    accelerator_config: Mapping[str, Any] | None = None
    guidance_config: Mapping[str, Any] | None = None

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
            made = cls(**{**found, "modes": tuple(found.get("modes", ()))})
            if not (isinstance(made.model, str) and isinstance(made.options, dict)):
                raise ValueError(f"model is {made.model!r} and options {made.options!r}")
            return made
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{reprlib.repr(text)} is not the record of a run: {error}") from error

    def arguments(self) -> dict[str, Any]:
        """The recorded arguments of the call, by name, among further entries."""
        return {item.name: getattr(self, item.name) for item in fields(self)} | dict(self.options)

    def parameters(self) -> str:
        """The text `parameters` in the format of AUTOMATIC1111's web UI, which many viewers show and parse."""
        fields = {
            "Steps": self.steps,
            "Sampler": self.solver,
            "Schedule type": self.grid,
            "CFG scale": f"{self.guidance:g}" if isinstance(self.guidance, float | int) else self.guidance,
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
        """All fields as a JSON object."""
        return json.dumps(self.known(), ensure_ascii=False)

    def known(self, *without: str) -> dict[str, Any]:
        """The fields by name, less those of `without`, and without configs that are not known."""
        configs = ("solver_config", "accelerator_config", "guidance_config")
        left_out = {*without, *(name for name in configs if getattr(self, name) is None)}
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    def chunks(self) -> dict[str, str]:
        """Text chunks of a PNG file: `parameters` for viewers, and `sadaflow` (JSON), which reproduces the run."""
        return {"parameters": self.parameters(), "sadaflow": self.to_json()}


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _quoted(value: str) -> str:
    """The value, as a JSON string if it contains a separator of the line: AUTOMATIC1111's parser expects that."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',:"\n') else value
