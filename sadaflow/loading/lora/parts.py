"""The tensors that a file holds for one layer."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .products import scaling
from .settings import Settings
from .targets import Layer


@dataclass(frozen=True)
class Parts:
    """All tensors of one layer.

    Attributes:
        layer: The layer as the file spells it.
        tensors: Its tensors, by the part names of `keys.parse`.
        place: The layer of the pipeline.
        settings: The settings of its network.
    """

    layer: str
    tensors: Mapping[str, Tensor]
    place: Layer
    settings: Settings

    @property
    def path(self) -> str:
        """The layer's path in its network, which patterns of the settings name."""
        return self.layer.removeprefix("base_model.model.").removeprefix(f"{self.place.component}.")

    def weight(self, rank: int) -> float:
        """The factor of a product of this rank, from the file's alpha or that of the settings."""
        alpha = self.number("alpha")
        if alpha is None:
            alpha = self.settings.alpha(self.path)
        return scaling(alpha, rank, self.settings.root) * (1.0 if (own := self.number("scalar")) is None else own)

    def number(self, part: str) -> float | None:
        """A tensor that is one number; None if it is missing."""
        tensor = self.tensors.get(part)
        if tensor is None:
            return None
        if tensor.numel() != 1:
            raise ValueError(f"{part} of {self.layer} has shape {tuple(tensor.shape)}, expected one number")
        return float(tensor.float().reshape(()))

    def matrix(self, part: str) -> Tensor:
        """A tensor with its last dimensions joined."""
        tensor = self.tensors[part]
        if tensor.dim() < 2 or 0 in tensor.shape:
            raise ValueError(
                f"{part} of {self.layer} has the shape {tuple(tensor.shape)}; matrices of rank 1 or more are needed"
            )
        return tensor.flatten(1)

    def maybe(self, part: str) -> Tensor | None:
        """A tensor as a matrix; None if it is missing."""
        return self.matrix(part) if part in self.tensors else None
