"""Weights that stay in their files, read a layer at a time."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .safetensor_file import Stored, read_tensors
from .weights import placed


class StoredWeights:
    """Reads the parameters of one layer of `module`, anew each time: `stored` says where each parameter lies.

    A file is mapped for as long as it takes to copy, so that memory holds nothing that is not in use. Files must stay
    as they are while the module is.
    """

    def __init__(self, module: nn.Module, stored: Mapping[str, Stored]) -> None:
        self._dtypes = {name: tensor.dtype for name, tensor in module.named_parameters(remove_duplicate=False)}
        self._layers: dict[str, dict[str, Stored]] = {}
        for name, one in stored.items():
            layer, _, leaf = name.rpartition(".")
            self._layers.setdefault(layer, {})[leaf] = one

    def __call__(self, layer: str) -> dict[str, Tensor]:
        """The own parameters of `layer` on the CPU, in the module's dtypes; ValueError for one that is not finite."""
        leaves = {one: leaf for leaf, one in self._layers[layer].items()}
        return {
            leaves[one]: placed(one, tensor, self._dtypes[f"{layer}.{leaves[one]}".lstrip(".")], torch.device("cpu"))
            for one, tensor in read_tensors(sorted(leaves, key=lambda one: str(one.path)))
        }
