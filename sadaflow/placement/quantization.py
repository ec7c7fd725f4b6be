"""Quantizes weights of linear layers to eight bits with torchao, an extra that is imported when it is used."""

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from ..loading.decoder_fields import DECODERS
from ..loading.weight_source import ReadLayer
from .streaming import fill

QUANTIZATIONS = {"int8": "Int8WeightOnlyConfig", "fp8": "Float8WeightOnlyConfig"}


class Quantize:
    """Quantizes the weights of large networks; activations keep the pipeline's dtype.

    The linear layers in the blocks of the backbone, of ControlNets, of T5 and of language models are quantized, with a
    scale for each row. Embeddings, first and last layers, convolutions and norms are not.

    Args:
        torchao: The module `torchao.quantization`.
        config: torchao's config of the format.
    """

    def __init__(self, torchao: Any, config: Any) -> None:
        self._torchao, self._config = torchao, config

    @classmethod
    def named(cls, name: str) -> Self:
        """Create the quantization of that name; raises ValueError if it is unknown, ImportError without torchao."""
        if name not in QUANTIZATIONS:
            raise ValueError(f"unknown quantization {name!r}; known: {', '.join(QUANTIZATIONS)}")
        try:
            import torchao.quantization as torchao
        except ImportError as error:
            raise ImportError("quantized weights need the extra: pip install 'sadaflow[quantize]'") from error
        return cls(torchao, getattr(torchao, QUANTIZATIONS[name])())

    def add(self, network: nn.Module, read: ReadLayer) -> None:
        """Read the layers of a network and quantize each before the next is read.

        Memory thus holds one layer at most that is not quantized.

        Args:
            network: A network on the meta device.
            read: Reads the weights of one of its layers.
        """
        large = _is_large(network)
        for name, layer in network.named_modules():
            if next(layer.parameters(recurse=False), None) is not None:
                fill(layer, read(name))
            if large and _in_a_block(layer, name):
                self._torchao.quantize_(layer, self._config)

    def take(self, networks: Mapping[str, nn.Module]) -> None:
        """Quantize the layers of `networks` that `add` has not quantized."""
        for network in networks.values():
            for part in filter(_is_large, network.modules()):  # a U-Net may be part of a module with its ControlNets
                self._torchao.quantize_(part, self._config, filter_fn=_is_unquantized)


def _is_large(network: nn.Module) -> bool:
    """Whether a network is a backbone, which has sites, a ControlNet, or a large text encoder."""
    if getattr(network, "steers", False) or type(network).__name__ in ("T5EncoderModel", *DECODERS):
        return True
    return hasattr(network, "sites") and not any(hasattr(part, "sites") for part in network.children())


def _in_a_block(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Linear) and any(part.isdigit() for part in name.split("."))


def _is_unquantized(module: nn.Module, name: str) -> bool:
    return _in_a_block(module, name) and type(module.weight.data) is Tensor
