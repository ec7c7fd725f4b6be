"""Where the tensors of a network come from."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from .safetensors_file import Stored


@dataclass(frozen=True)
class Origin:
    """Where a tensor of a network comes from.

    Attributes:
        stored: The tensor in the file.
        part: Name of the converted tensor; a stored tensor may be converted to several.
    """

    stored: Stored
    part: str


def misshaped(
    expected: Mapping[str, Tensor], found: Mapping[str, Origin], shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """What is wrong with the shapes of stored tensors.

    Args:
        expected: The tensors of the network by name.
        found: Where each comes from.
        shapes: Shapes of the converted tensors by name.
    """
    problems = []
    for name, tensor in expected.items():
        origin, shape = found[name], shapes[found[name].part]
        if shape != tuple(tensor.shape):
            source = name if origin.part == origin.stored.name else f"{origin.stored.name} gives {name} as"
            verb = " is" if source == name else ""
            problems.append(f"{source}{verb} {shape}, expected {tuple(tensor.shape)}")
    return problems


def tied_names(network: nn.Module) -> dict[str, list[str]]:
    """For the name of each parameter, all names of the same parameter."""
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    return {name: group for group in names.values() for name in group}
