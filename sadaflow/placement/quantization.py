"""Weights of linear layers in eight bits, by torchao (an extra, imported where it is used)."""

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from sadaflow.models import ControlNet, FluxTransformer, UNet

from ..loading.weight_source import Read
from .streaming import fill

QUANTIZATIONS = {"int8": "Int8WeightOnlyConfig", "fp8": "Float8WeightOnlyConfig"}


class Quantize:
    """Puts the weights of large networks into eight bits; activations stay in the dtype that was asked for.

    Quantized are the linear layers in the blocks of the backbone, its ControlNets and T5, a row at a time with a scale
    of its own; embeddings, first and last layers, convolutions and norms are left.
    """

    def __init__(self, torchao: Any, config: Any) -> None:
        self._torchao, self._config = torchao, config

    @classmethod
    def named(cls, name: str) -> Self:
        """Raises ValueError for a name that is not known, ImportError naming the extra."""
        if name not in QUANTIZATIONS:
            raise ValueError(f"unknown quantization {name!r}; known: {', '.join(QUANTIZATIONS)}")
        try:
            import torchao.quantization as torchao
        except ImportError as error:
            raise ImportError("quantized weights need the extra: pip install 'sadaflow[quantize]'") from error
        return cls(torchao, getattr(torchao, QUANTIZATIONS[name])())

    def add(self, network: nn.Module, read: Read) -> None:
        """Fill the layers of a network as `read` gives their weights by their names in it, and quantize each before
        the next is read, so that memory never holds more than one of them in full."""
        large = _is_large(network)
        for name, layer in network.named_modules():
            if next(layer.parameters(recurse=False), None) is not None:
                fill(layer, read(name))
            if large and _in_a_block(layer, name):
                self._torchao.quantize_(layer, self._config)

    def take(self, networks: Mapping[str, nn.Module]) -> None:
        """Quantize what `add` has not."""
        for network in networks.values():
            for part in filter(_is_large, network.modules()):  # a U-Net may lie in one with its ControlNets
                self._torchao.quantize_(part, self._config, filter_fn=_is_left)


def _is_large(network: nn.Module) -> bool:
    return isinstance(network, (ControlNet, FluxTransformer, UNet)) or type(network).__name__ == "T5EncoderModel"


def _in_a_block(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Linear) and any(part.isdigit() for part in name.split("."))


def _is_left(module: nn.Module, name: str) -> bool:
    return _in_a_block(module, name) and type(module.weight.data) is Tensor
