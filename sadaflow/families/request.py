"""Arguments of a pipeline's call that only some kinds of checkpoint honour."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from .values import listed, real_number, whole_number

Pair = Sequence[int]
_PAIRS = tuple(f"{sign}{name}" for sign in ("", "negative_") for name in ("original_size", "crop", "target_size"))


@dataclass(frozen=True)
class Options:
    """What a user asked for beyond what every kind of checkpoint has; the defaults leave each at what was published.

    Sizes are (height, width) and crops (top, left), in pixels of the pictures that an XL checkpoint was trained on.
    Numbers of any integer or floating-point type are taken, and held as Python's. Raises ValueError naming the argument
    that cannot be.
    """

    true_guidance: float = 1.0
    max_sequence_length: int = 512
    original_size: Pair | None = None
    crop: Pair | None = None
    target_size: Pair | None = None
    negative_original_size: Pair | None = None
    negative_crop: Pair | None = None
    negative_target_size: Pair | None = None
    aesthetic_score: float | None = None
    negative_aesthetic_score: float | None = None

    def __post_init__(self) -> None:
        for name in ("true_guidance", "aesthetic_score", "negative_aesthetic_score"):
            number = getattr(self, name)
            if number is not None or name == "true_guidance":
                object.__setattr__(self, name, real_number(name, number))
        length = whole_number("max_sequence_length", self.max_sequence_length)
        object.__setattr__(self, "max_sequence_length", length)
        for name in _PAIRS:
            if (pair := getattr(self, name)) is not None:
                object.__setattr__(self, name, _pair(name, pair))

    def refuse_idle(self, honoured: Iterable[str], kind: str) -> None:
        """Raise ValueError for an option that was given and is not one of the `honoured` of the `kind`."""
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name not in honoured and value != option.default:
                raise ValueError(f"{option.name}={value!r} has no effect on a {kind} checkpoint; leave it out")


def _pair(name: str, pair: Any) -> tuple[int, int]:
    try:
        first, second = listed(pair) or [None]
        return whole_number(name, first, 0), whole_number(name, second, 0)
    except ValueError:
        meaning = "(top, left)" if name.endswith("crop") else "(height, width)"
        raise ValueError(f"{name} must be {meaning}, two whole numbers of pixels, got {pair!r}") from None


Negative = str | None | Sequence[str | None]
"""A negative prompt for all samples, or one for each; None is none."""


@dataclass(frozen=True)
class Settings:
    """What all runs of a comparison share; None means what the checkpoint recommends."""

    steps: int = 50
    solver: str | None = None
    guidance: float | None = None
    seed: int = 0
    negative_prompt: Negative = None  # one for all prompts, or a sequence with one for each
    height: int | None = None
    width: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)  # further ones of a pipeline's call, as control=
    grid: str | None = None

    def negative_of(self, index: int) -> str | None:
        """The negative prompt of the prompt `index`."""
        negative = self.negative_prompt
        return negative if negative is None or isinstance(negative, str) else negative[index]

    def call(self) -> dict[str, Any]:
        """Keyword arguments for one run of a pipeline; the steps and the accelerator are the run's own."""
        return {
            "solver": self.solver,
            "grid": self.grid,
            "guidance": self.guidance,
            "seed": self.seed,
            "negative_prompt": self.negative_prompt,
            "height": self.height,
            "width": self.width,
            "output": "tensor",
            **self.arguments,
        }
