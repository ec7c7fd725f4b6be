"""A searched set of evaluated steps and the file that holds it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

FORMAT: Final = 1
"""Version of the fields; another one is refused."""


@dataclass(frozen=True)
class Searched:
    """The best set of evaluated steps that a search has found, and what it was found for.

    Attributes:
        mask: A character for each step, "1" where the network is evaluated.
        predictor: The predictor of the skipped steps, a key of `PREDICTORS`.
        correct: Whether skipped steps are taken again.
        solver: The solver without its grid, from `describe_solver`.
        weights: Digest of the network's weights; empty if it is not known.
        guidance: Scale of classifier-free guidance.
        samples: Number of samples that the losses are means of.
        prompts: Digest of the prompts of the samples.
        loss: Mean over samples of log10 of the mean squared error of the final latents against the plain run.
        tried: Losses of all masks that were sampled, by mask; a search goes on from them.
    """

    mask: str
    predictor: str
    correct: bool
    solver: str
    weights: str
    guidance: float
    samples: int
    prompts: str
    loss: float
    tried: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON can hold them, with the version of the format."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], label: str) -> Self:
        """Reads what `to_json` made.

        Raises:
            ValueError: if the format is another one, or a field is missing, unknown or malformed.
        """
        if (found := content.get("format")) != FORMAT:
            raise ValueError(
                f"{label}: the schedule has format {found!r}, this version reads {FORMAT}; make it with "
                "`sadaflow schedule`"
            )
        names = {field.name for field in fields(cls)}
        if unlike := names.symmetric_difference(content) - {"format"}:
            raise ValueError(f"{label}: the schedule lacks or has unknown fields: {', '.join(sorted(unlike))}")
        mask, tried = content["mask"], content["tried"]
        if not isinstance(mask, str) or not mask or set(mask) - set("01"):
            raise ValueError(f"{label}: mask must be a string of 0 and 1, got {mask!r}")
        if not isinstance(tried, Mapping) or not isinstance(content["correct"], bool):
            raise ValueError(f"{label}: tried must be an object, and correct true or false")
        return cls(**{name: content[name] for name in names})


def read_searched(path: str | Path) -> Searched:
    """Reads the file of a search.

    Raises:
        ValueError: if there is no such file, or it is not one of a search.
    """
    try:
        content = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"the schedule {str(path)!r} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a file of `sadaflow schedule`: it holds no object")
    return Searched.from_json(content, str(path))
