"""Types for reading the weights of single layers, for networks that are streamed or quantized layer by layer."""

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

LayerWeights = Mapping[str, Tensor]
"""The own parameters of one layer by name, on the CPU."""
ReadLayer = Callable[[str], LayerWeights]
"""From the name of a layer in its network to its weights."""


class Keeper(Protocol):
    """Takes over networks that were built without memory for their weights."""

    def add(self, network: nn.Module, read: ReadLayer) -> None:
        """Take over `network`; `read` reads the weights of one of its layers."""
        ...
