"""Merges low-rank adapters into the weights of a pipeline: W + scale * alpha / rank * up @ down.

The tensors from before the first adapter are kept, and put back when the last one is removed: unloading is exact, in
any order. This takes the memory of the changed layers once more, and that of the factors.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .names import list_targets
from .read import Factors, Lora


class LoraStack:
    """The adapters that are merged into a pipeline.

    Args:
        components: The networks by name: unet, transformer, text_encoder, text_encoder_2.

    Attributes:
        targets: All layers of the networks, by each of their spellings.
    """

    def __init__(self, components: Mapping[str, nn.Module]) -> None:
        self._weights = {
            (component, name): weight
            for component, module in components.items()
            for name, weight in module.named_parameters()
        }
        self._originals: dict[tuple[str, str], Tensor] = {}
        self._active: list[Lora] = []
        self.targets = list_targets(components)

    def __bool__(self) -> bool:
        """Whether an adapter is merged."""
        return bool(self._active)

    def add(self, lora: Lora) -> None:
        """Merge an adapter; raises ValueError, before any weight is changed, if a factor does not fit its layer."""
        for factors in lora.factors:
            self._check(factors, lora.name)
        self._active.append(lora)
        self._refresh(lora)

    def remove(self, lora: Lora) -> None:
        """Undo `add`; raises ValueError if the adapter is not merged."""
        if lora not in self._active:
            raise ValueError(f"the LoRA {lora.name!r} is not loaded in this pipeline, or was unloaded before")
        self._active.remove(lora)
        self._refresh(lora)

    def _check(self, factors: Factors, name: str) -> None:
        target = factors.target
        shapes = [tuple(self._weights[target.component, weight].shape) for weight in target.weights]
        rows, columns = sum(shape[0] for shape in shapes), math.prod(shapes[0][1:])
        if (factors.up.shape[0], factors.down.shape[1]) != (rows, columns) or factors.up.shape[1] != len(factors.down):
            raise ValueError(
                f"{name}: {factors.layer} is {tuple(factors.up.shape)} times {tuple(factors.down.shape)}, but the "
                f"layer is ({rows}, {columns}): this LoRA was made for another model"
            )

    @torch.no_grad()
    def _refresh(self, lora: Lora) -> None:
        """Recompute the weights that `lora` targets from their originals and the merged adapters."""
        changed = dict.fromkeys(
            (factors.target.component, weight) for factors in lora.factors for weight in factors.target.weights
        )
        for component, name in changed:
            weight = self._weights[component, name]
            original = self._originals.setdefault((component, name), weight.data)
            products = [
                (active.scale, factors)
                for active in self._active
                for factors in active.factors
                if factors.target.component == component and name in factors.target.weights
            ]
            if not products:
                weight.data = self._originals.pop((component, name))
                continue
            merged = original.to(torch.promote_types(original.dtype, torch.float32))
            for scale, factors in products:
                merged = merged + scale * _difference(factors, name, merged)
            weight.data = torch.empty_like(original).copy_(merged)


def _difference(factors: Factors, weight: str, like: Tensor) -> Tensor:
    """What the factors add to the parameter named `weight`, in the shape, dtype and device of `like`."""
    product = factors.up.to(like) @ factors.down.to(like)
    return factors.weight * factors.target.split(product)[weight].reshape(like.shape)
