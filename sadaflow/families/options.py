"""Arguments of a pipeline's call that only some kinds of checkpoint honour."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

Pair = Sequence[int]
_PAIRS = tuple(f"{sign}{name}" for sign in ("", "negative_") for name in ("original_size", "crop", "target_size"))


@dataclass(frozen=True)
class Options:
    """What a user asked for beyond what every kind of checkpoint has; the defaults leave each at what was published.

    Sizes are (height, width) and crops (top, left), in pixels of the pictures that an XL checkpoint was trained on.
    Raises ValueError naming the argument that cannot be.
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
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{name} must be a finite number, got {number}")
        for name in _PAIRS:
            pair = getattr(self, name)
            if pair is not None and not _is_pair(pair):
                meaning = "(top, left)" if name.endswith("crop") else "(height, width)"
                raise ValueError(f"{name} must be {meaning}, two whole numbers of pixels, got {pair!r}")

    def refuse_idle(self, honoured: Iterable[str], kind: str) -> None:
        """Raise ValueError for an option that was given and is not one of the `honoured` of the `kind`."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in honoured and value != field.default:
                raise ValueError(f"{field.name}={value!r} has no effect on a {kind} checkpoint; leave it out")


def _is_pair(pair: object) -> bool:
    return isinstance(pair, Sequence) and len(pair) == 2 and all(type(side) is int and side >= 0 for side in pair)
