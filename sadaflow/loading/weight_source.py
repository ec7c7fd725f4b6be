"""Types of what reads a layer's weights, and of what keeps weights for a network."""

from collections.abc import Callable, Mapping

from torch import Tensor

Weights = Mapping[str, Tensor]
Read = Callable[[str], Weights]
"""From the name of a layer to its own parameters, on the CPU."""
