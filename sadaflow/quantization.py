"""Weights of linear layers in eight bits, by torchao (an extra, imported where it is used)."""

from collections.abc import Callable, Mapping

from torch import nn

QUANTIZATIONS = {"int8": "Int8WeightOnlyConfig", "fp8": "Float8WeightOnlyConfig"}

Quantize = Callable[[Mapping[str, nn.Module]], None]


def make_quantize(name: str) -> Quantize:
    """Puts the weights of large networks into eight bits; activations stay in the dtype that was asked for.

    Quantized are the linear layers in the blocks of the backbone and of T5, a row at a time with a scale of its own;
    embeddings, first and last layers, convolutions and norms are left. Raises ValueError for a name that is not known,
    ImportError naming the extra.
    """
    if name not in QUANTIZATIONS:
        raise ValueError(f"unknown quantization {name!r}; known: {', '.join(QUANTIZATIONS)}")
    try:
        import torchao.quantization as torchao
    except ImportError as error:
        raise ImportError("quantized weights need the extra: pip install 'sadaflow[quantize]'") from error

    def quantize(networks: Mapping[str, nn.Module]) -> None:
        for component, network in networks.items():
            if component in ("unet", "transformer") or type(network).__name__ == "T5EncoderModel":
                torchao.quantize_(network, getattr(torchao, QUANTIZATIONS[name])(), filter_fn=_in_a_block)

    return quantize


def _in_a_block(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Linear) and any(part.isdigit() for part in name.split("."))
