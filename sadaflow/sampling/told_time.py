"""The time input of a network: a number at each evaluation, computed from its node."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sadaflow.solvers import Node, Schedule

Time = str | Callable[[Node], float]
"""A name in `TIMES`, or a function of the node. A function that returns an int gives the network whole numbers."""


def _elapsed(node: Node, schedule: Schedule) -> float:
    return (node.t - schedule.t_min) / (schedule.t_max - schedule.t_min)


def _ratio(node: Node) -> float:
    return math.inf if node.alpha == 0 else node.sigma / node.alpha


TIMES: Final[Mapping[str, Callable[[Node, Schedule], float]]] = MappingProxyType(
    {
        "timestep": lambda node, schedule: node.timestep,
        "t": _elapsed,
        "1-t": lambda node, schedule: 1 - _elapsed(node, schedule),
        "1000t": lambda node, schedule: 1000 * _elapsed(node, schedule),
        "sigma": lambda node, schedule: node.sigma,
        "sigma_ve": lambda node, schedule: _ratio(node),
        "c_noise": lambda node, schedule: math.log(_ratio(node)) / 4,
        "log_snr": lambda node, schedule: node.log_snr,
        "alpha": lambda node, schedule: node.alpha,
        "alpha_cumprod": lambda node, schedule: node.alpha**2,
    }
)
"""Times by name, of a node with alpha and sigma.

"timestep" is the grid's; "t" runs from 0 (data) to 1 (noise), "1-t" and "1000t" follow it; "sigma_ve" is sigma/alpha;
"c_noise" is ln(sigma/alpha)/4 (Karras et al. 2022); "log_snr" is log(alpha/sigma); "alpha_cumprod" is alpha^2.
"""


def known_time(time: Time) -> Time:
    """Returns `time`; raises ValueError, listing the known names, if it is neither one of them nor a function."""
    if not callable(time) and time not in TIMES:
        raise ValueError(f"unknown time={time!r}; known are {', '.join(TIMES)}, and any function of the node")
    return time


def told_times(time: Time, nodes: Sequence[Node], schedule: Schedule) -> list[float]:
    """The time input of a network at each node, computed from the node itself, also between the points of a grid.

    Args:
        time: A name, or a function of the node.
        nodes: The nodes.
        schedule: The noise schedule, whose ends are t = 0 and t = 1.

    Raises:
        ValueError: if a number is not finite.
    """
    tell = time if callable(time) else lambda node: TIMES[time](node, schedule)
    told = [tell(node) for node in nodes]
    for step, (number, node) in enumerate(zip(told, nodes, strict=True)):
        if not isinstance(number, (int, float)) or not math.isfinite(number):
            raise ValueError(
                f"at evaluation {step} (alpha={node.alpha:.4g}, sigma={node.sigma:.4g}) the network would be told "
                f"{number!r} by time={getattr(time, '__name__', time)!r}, which is not a finite number: use another "
                "time, or a grid that does not start at pure noise"
            )
    return told
