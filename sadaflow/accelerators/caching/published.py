"""Numbers that the authors of TeaCache and MagCache publish for checkpoints, by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

Numbers = tuple[float, ...]

TEACACHE: Final[Mapping[str, Numbers]] = MappingProxyType(
    {
        "flux": (4.98651651e02, -2.83781631e02, 5.58554382e01, -3.82021401e00, 2.64230861e-01),
        "wan2.1-t2v-1.3b": (-5.21862437e04, 9.23041404e03, -5.28275948e02, 1.36987616e01, -4.99875664e-02),
        "wan2.1-t2v-14b": (-3.03318725e05, 4.90537029e04, -2.65530556e03, 5.87365115e01, -3.15583525e-01),
        "wan2.1-i2v-480p": (2.57151496e05, -3.54229917e04, 1.40286849e03, -1.35890334e01, 1.32517977e-01),
        "wan2.1-i2v-720p": (8.10705460e03, 2.13393892e03, -3.72934672e02, 1.66203073e01, -4.17769401e-02),
    }
)
"""Polynomials, highest power first. Those of Wan belong to indicator "time", with five full steps at the start and none
at the end; the authors' thresholds are 0.05 to 0.08 for T2V 1.3B, 0.14 to 0.2 for T2V 14B, 0.13 to 0.26 for I2V at 480
lines and 0.18 to 0.3 at 720."""

MAGCACHE: Final[Mapping[str, Numbers]] = MappingProxyType(
    {
        "flux-dev": (
            1.0, 1.21094, 1.11719, 1.07812, 1.0625, 1.03906, 1.03125, 1.03906, 1.02344, 1.03125, 1.02344, 0.98047,
            1.01562, 1.00781, 1.0, 1.00781, 1.0, 1.00781, 1.0, 1.0, 0.99609, 0.99609, 0.98047, 0.98828, 0.96484,
            0.95703, 0.93359, 0.89062,
        ),
        "wan2.1-t2v-1.3b": (
            1.0, 1.0124, 1.00166, 0.99791, 0.99682, 0.99634, 0.99567, 0.99416, 0.99578, 0.9957, 0.99511, 0.99535,
            0.99552, 0.99541, 0.9954, 0.99489, 0.99518, 0.99484, 0.99481, 0.99415, 0.99419, 0.99396, 0.99388, 0.99349,
            0.99309, 0.9927, 0.99228, 0.99171, 0.99137, 0.99068, 0.99005, 0.98944, 0.98849, 0.98758, 0.98644, 0.98504,
            0.9836, 0.98202, 0.97977, 0.97717, 0.9741, 0.97003, 0.96538, 0.9593, 0.95086, 0.94013, 0.92402, 0.90241,
            0.86821, 0.81838,
        ),
        "wan2.1-t2v-14b": (
            1.0, 1.02504, 1.00025, 0.9985, 0.99779, 0.9966, 0.99482, 0.99467, 0.99664, 0.99434, 0.99533, 0.99468,
            0.99438, 0.99516, 0.99384, 0.99404, 0.99517, 0.99409, 0.99428, 0.99347, 0.99418, 0.99271, 0.99313, 0.99215,
            0.99218, 0.99216, 0.99163, 0.99138, 0.98982, 0.98996, 0.9887, 0.98772, 0.98767, 0.98573, 0.98501, 0.9838,
            0.98177, 0.98037, 0.97678, 0.97546, 0.97184, 0.96711, 0.96349, 0.95629, 0.94926, 0.93964, 0.92511, 0.90693,
            0.8796, 0.86111,
        ),
    }
)  # fmt: skip
"""Ratios of the residual's magnitude: of Flux.1 dev at 28 steps; of Wan at 50 steps, of the conditional branch. Those
of the other branch differ by at most 0.001 beyond the first steps, which are never skipped. The authors' settings for
Wan are retention 0.2, with threshold 0.12 and at most 2 or 4 skips for T2V 1.3B, and 0.24 and 6 for T2V 14B."""


def published(table: Mapping[str, Numbers], given: Numbers | str) -> Numbers:
    """The numbers that a name stands for; numbers are returned as they are.

    Raises:
        ValueError: If the name is unknown.
    """
    if not isinstance(given, str):
        return given
    if given not in table:
        raise ValueError(f"unknown published numbers {given!r}; known: {', '.join(table)}")
    return table[given]
