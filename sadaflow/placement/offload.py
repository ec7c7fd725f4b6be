"""Keeps weights that are not in use out of the device's memory."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from .streaming import Stream, host_weights

OFFLOADS = ("model", "stream")


class Offload(Protocol):
    """Moves weights to the device when they are needed."""

    stream: Stream | None
    """If not None, networks are added to it, to be read from their files, instead of being loaded to host memory."""

    def take(self, networks: Mapping[str, nn.Module]) -> None:
        """Start to offload `networks`, which have been loaded to host memory."""
        ...

    def changing(self) -> AbstractContextManager[None]:
        """Context manager for changing weights; raises ValueError if they are read from files."""
        ...


def make_offload(name: str, device: torch.device) -> Offload:
    """Create the offload of that name; raises ValueError if it is unknown or has no effect on `device`."""
    if name not in OFFLOADS:
        raise ValueError(f"unknown offload {name!r}; known: {', '.join(OFFLOADS)}")
    if name == "stream":
        return StreamOffload(device)
    if device.type == "cpu":
        raise ValueError(
            "offload='model' keeps weights in host memory while the device does not need them, and the device is the "
            "CPU: use offload='stream', which leaves the weights on disk"
        )
    return ModelOffload(device)


class ModelOffload:
    """Keeps one network at a time on the device, from its first call until another network is called.

    The weights stay in host memory; their copies on the device are dropped when another network is called.

    Args:
        device: The device.
    """

    stream: Stream | None = None

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._current: str | None = None
        self._originals: dict[str, list[tuple[nn.Module, str, nn.Parameter]]] = {}
        self._networks: dict[str, nn.Module] = {}

    def take(self, networks: Mapping[str, nn.Module]) -> None:
        for name, network in networks.items():
            self._networks[name] = network
            self._originals[name] = [
                (module, key, parameter)
                for module in network.modules()
                for key, parameter in module.named_parameters(recurse=False)
            ]
            # Layers of a network are also called on their own.
            for module in {network: None} | {owner: None for owner, _, _ in self._originals[name]}:
                module.register_forward_pre_hook(partial(self._enter, name), with_kwargs=True)

    @contextmanager
    def changing(self) -> Iterator[None]:
        self._leave()
        yield

    def _leave(self) -> None:
        if self._current is not None:
            for module, key, parameter in self._originals[self._current]:
                setattr(module, key, parameter)
            self._move_buffers(self._current, torch.device("cpu"))
        self._current = None

    def _enter(self, name: str, module: nn.Module, inputs: Any, named: Any) -> Any:
        if self._current == name:
            return None
        self._leave()
        copies: dict[nn.Parameter, nn.Parameter] = {}
        for owner, key, parameter in self._originals[name]:
            if parameter not in copies:
                copies[parameter] = nn.Parameter(parameter.data.to(self._device), requires_grad=False)
            setattr(owner, key, copies[parameter])
        self._move_buffers(name, self._device)
        self._current = name
        return tree_map_only(torch.Tensor, lambda tensor: tensor.to(self._device), (inputs, named))

    def _move_buffers(self, name: str, device: torch.device) -> None:
        for module in self._networks[name].modules():
            for key, buffer in module.named_buffers(recurse=False):
                setattr(module, key, buffer.to(device))


class StreamOffload:
    """Keeps layers on the device while they run, copied from host memory; on the CPU they are read from their files.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self._from_files, self._pin = device.type == "cpu", device.type == "cuda"
        self._stream = Stream(device)
        self.stream = self._stream if self._from_files else None

    def take(self, networks: Mapping[str, nn.Module]) -> None:
        if self._from_files:
            return
        for network in networks.values():
            self._stream.add(network, host_weights(network, pin=self._pin))

    @contextmanager
    def changing(self) -> Iterator[None]:
        if self._from_files:
            raise ValueError(
                "offload='stream' on the CPU reads the weights from their files, which a LoRA cannot change: load "
                "the pipeline without offload="
            )
        yield
        self._stream.renew()
