"""What a network with ControlNets computes before it is evaluated: its own tensors and those of each ControlNet."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def of_part(given: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """Returns the tensors of ControlNet `index` from those of the combined network."""
    start = f"{index}."
    return {name.removeprefix(start): tensor for name, tensor in given.items() if name.startswith(start)}


def joined_times(parts: Sequence[Any], timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """Computes `prepare_times` of a network and of each of its ControlNets, concatenated along the last axis.

    Args:
        parts: the network, then the ControlNets.
        timesteps: (S, 1) or (S, B), timesteps of S steps.
        given: output of `prepare` of the combined network.

    Returns:
        (S, 1 or B, width).
    """
    network, *nets = parts
    times = [network.prepare_times(timesteps, given)]
    times += [net.prepare_times(timesteps, of_part(given, index)) for index, net in enumerate(nets)]
    rows = max(part.shape[1] for part in times)
    return torch.cat([part.expand(-1, rows, -1) for part in times], dim=-1)
