"""fp8 weights that are stored with a scale: the weight is the stored number times its scale.

Such files mark themselves by an empty tensor `scaled_fp8`, or not at all. The scale of `layer.weight` is
`layer.scale_weight` or `layer.weight_scale`: one number, or one for each row. Scales of inputs serve eight-bit
multiplication and are not used.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ..safetensors_file import Stored, open_safetensors

Scales = Mapping[str, Tensor]
_WEIGHT = (".scale_weight", ".weight_scale")
_UNUSED = (".scale_input", ".input_scale", "scaled_fp8")


def split_scales(stored: Sequence[Stored]) -> tuple[tuple[Stored, ...], dict[str, Stored]]:
    """Separate weights and scales.

    Args:
        stored: The tensors of a file.

    Returns:
        The tensors that are not scales, and the scales by the names of their weights.

    Raises:
        ValueError: If a scale has no weight or another shape than its weight needs, or if the weight is not fp8.
    """
    weights = {tensor.name: tensor for tensor in stored if not tensor.name.endswith((*_WEIGHT, *_UNUSED))}
    scales: dict[str, Stored] = {}
    for tensor in stored:
        if not tensor.name.endswith(_WEIGHT):
            continue
        name = f"{tensor.name.rpartition('.')[0]}.weight"
        if name not in weights:
            raise ValueError(f"{tensor.path}: {tensor.name} is the scale of {name}, which is missing")
        if name in scales:
            raise ValueError(f"{tensor.path}: {name} has two scales, {scales[name].name} and {tensor.name}")
        if not weights[name].is_float:
            raise ValueError(
                f"{tensor.path}: {name} holds {weights[name].format} with a scale, and of scaled weights only fp8 is "
                "read; take the file with 16-bit weights"
            )
        scales[name] = tensor
        rows = weights[name].shape[:1]
        if tensor.elements != 1 and (tensor.shape[:1] != rows or tensor.elements != rows[0]):
            raise ValueError(
                f"{tensor.path}: {tensor.name} is {tensor.shape} for a weight of {weights[name].shape}; scales are one "
                "number, or one for each row"
            )
    return tuple(weights.values()), scales


def read_scales(path: Path, scales: Mapping[str, Stored]) -> dict[str, Tensor]:
    """Read scales, in float32, in a shape that multiplies their weights.

    Args:
        path: The file.
        scales: The scales by the names of their weights.
    """
    if not scales:
        return {}
    with open_safetensors(path) as file:
        read = {name: file.get_tensor(scale.name).float().flatten() for name, scale in scales.items()}
    return {name: scale.reshape(()) if len(scale) == 1 else scale[:, None] for name, scale in read.items()}
