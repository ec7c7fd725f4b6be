"""The arguments of a call that concern ControlNets."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from sadaflow.solvers.names.settings import nearest

from .argument import anything, argument, numbers
from .values import listed, whole_number

CONTROL_MODES: Final = MappingProxyType(
    {"canny": 0, "tile": 1, "depth": 2, "blur": 3, "pose": 4, "gray": 5, "low quality": 6}
)
"""Conditions of the union ControlNets of Flux.1, by the names of their pages (InstantX, Shakker-Labs)."""

Mode = int | str
"""The number or the name of a condition."""


def _read_modes(name: str, value: Any) -> int | None | tuple[int | None, ...]:
    several = listed(value)
    if several is not None:
        return tuple(_read_mode(f"{name}[{index}]", entry) for index, entry in enumerate(several))
    return _read_mode(name, value)


def _read_mode(name: str, value: Any) -> int | None:
    """The number of a condition; "none" is None, as None."""
    if value is None or value == "none":
        return None
    if not isinstance(value, str):
        return whole_number(name, value, 0)
    if value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if value not in CONTROL_MODES:
        known = ", ".join(f"{mode} ({number})" for mode, number in CONTROL_MODES.items())
        raise ValueError(f"unknown {name} {value[:80]!r}{nearest(value, CONTROL_MODES)}; known: {known}")
    return CONTROL_MODES[value]


@dataclass(frozen=True)
class ControlOptions:
    """Arguments of ControlNets.

    Attributes:
        control: An image for the ControlNet, or a list with one for each: PIL, array, or tensor (3, H, W) or
            (B, 3, H, W), RGB in [0, 1].
        control_scale: Weight of the ControlNets' residuals: a number, or a sequence with one for each.
        control_start: Where they begin to act, as a fraction of the evaluations; likewise.
        control_end: Where they cease to act; likewise.
        control_mode: Condition of a union ControlNet of Flux.1, by number or by the name of `CONTROL_MODES`; or a
            sequence with one for each ControlNet, None for those of a single condition.
    """

    control: Any = argument(
        None, anything, "Picture for a ControlNet; one for each, in order.",
        flag_type=list[str], metavar="FILE",
    )  # fmt: skip
    control_scale: float | Sequence[float] = argument(
        1.0, numbers, "Weight of the ControlNets: one for all, or one for each.", flag_type=list[float]
    )
    control_start: float | Sequence[float] = argument(
        0.0, numbers, "Where they begin to act, as a fraction of the steps.", flag_type=list[float]
    )
    control_end: float | Sequence[float] = argument(
        1.0, numbers, "Where they cease to act, as a fraction of the steps.", flag_type=list[float]
    )
    control_mode: Mode | None | Sequence[Mode | None] = argument(
        None, _read_modes, "On union ControlNets: the condition, as depth or 2; one for each, or none.",
        flag_type=list[str], metavar="MODE",
    )  # fmt: skip
