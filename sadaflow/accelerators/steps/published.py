"""Published sets of evaluated steps, by name, for any number of steps."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from .rescaling import rescaled
from .scm import scm_mask
from .spectrum_steps import spectrum_steps

Mask = tuple[bool, ...]

_TABLES: Final[Mapping[str, tuple[int, tuple[int | tuple[int, int], ...]]]] = MappingProxyType(
    {
        # ZEUS (arXiv 2604.01552), the demos' settings; Stable Diffusion's is the same as SDXL's.
        "zeus-sd": (50, ((0, 10), 12, 15, 18, 21, 24, 25, 29, 33, 37, 41, (45, 49))),
        "zeus-flux": (50, ((0, 10), 12, 15, 18, 21, 24, 25, 30, 31, 36, 37, 42, 43, (46, 49))),
        "zeus-wan": (50, ((0, 9), 12, 15, 18, 21, 24, 25, 29, 33, 37, 41, 45, 48, 49)),
        "zeus-cogvideox": (50, ((0, 9), 12, 15, 18, 21, 24, 25, 31, 37, 43, 48, 49)),
        # MeanCache (arXiv 2601.19961), by the number of evaluations.
        "meancache-qwen-25": (50, ((0, 16), 24, 32, 40, 43, 45, (47, 49))),
        "meancache-qwen-17": (50, ((0, 8), 10, 17, 24, 31, 38, 45, 48, 49)),
        "meancache-qwen-10": (50, (0, 1, 3, 7, 14, 21, 28, 35, 42, 49)),
        "meancache-qwen2512-25": (50, ((0, 15), 23, 31, 37, (44, 49))),
        "meancache-qwen2512-17": (50, ((0, 9), 11, 19, 27, 35, 43, 47, 49)),
        "meancache-qwen2512-10": (50, (0, 2, 4, 7, 14, 21, 28, 35, 42, 49)),
        "meancache-zimage-25": (50, ((0, 6), 8, (10, 13), (15, 18), 20, 22, 29, 37, 42, 45, (47, 49))),
        "meancache-zimage-17": (50, ((0, 4), 6, 8, 10, 12, 14, 19, 27, 35, 43, 46, 48, 49)),
        "meancache-zimage-15": (50, ((0, 3), 5, 7, 10, 12, 17, 25, 33, 41, 45, 48, 49)),
        "meancache-zimage-13": (50, ((0, 3), 5, 9, 15, 22, 29, 36, 43, 47, 49)),
    }
)
"""Number of steps, and the evaluated ones: indices, or pairs of the first and the last of a run."""


def published_mask(name: str, steps: int) -> Mask:
    """The mask of a published set of steps.

    Args:
        name: A key of `PUBLISHED`.
        steps: Number of steps, N. A set that is published for another number keeps its density along the run.

    Raises:
        ValueError: if the name is unknown, or the rule has no mask for this number of steps.
    """
    if name not in PUBLISHED:
        raise ValueError(f"unknown set of steps {name!r}; known are {', '.join(PUBLISHED)}")
    return PUBLISHED[name](steps)


def _table(name: str, steps: int) -> Mask:
    length, parts = _TABLES[name]
    runs = [(part, part) if isinstance(part, int) else part for part in parts]
    evaluated = {step for first, last in runs for step in range(first, last + 1)}
    return rescaled([step in evaluated for step in range(length)], steps)


def _spectrum(flex: float, steps: int) -> Mask:
    evaluated = spectrum_steps(steps, flex=flex)
    return tuple(step in evaluated for step in range(steps))


_SPEEDS: Final = ("slow", "medium", "fast", "ultra")
_FLEX: Final = (0.25, 0.5, 0.75, 1, 2, 3)

PUBLISHED: Mapping[str, Callable[[int], Mask]] = MappingProxyType(
    {f"scm-{speed}": partial(scm_mask, speed) for speed in _SPEEDS}
    | {f"scm-{speed}-released": partial(scm_mask, speed, released=True) for speed in _SPEEDS}
    | {f"spectrum-{flex:g}": partial(_spectrum, flex) for flex in _FLEX}
    | {name: partial(_table, name) for name in _TABLES}
)
"""Makes the mask of evaluated steps from the number of steps, by name."""
