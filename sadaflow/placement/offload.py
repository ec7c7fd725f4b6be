"""Where the weights of a pipeline are while they are not in use."""

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
    """Brings weights to the device when they are needed; they are loaded to host memory."""

    stream: Stream | None
    """Where not None, networks are not loaded but added to it, with their files."""

    def take(self, networks: Mapping[str, nn.Module]) -> None:
        """See to the `networks`, now that they are loaded."""
        ...

    def changing(self) -> AbstractContextManager[None]:
        """While weights are changed where they were loaded to, as a LoRA does; ValueError where they cannot be."""
        ...


def make_offload(name: str, device: torch.device) -> Offload:
    """The offload of that name; ValueError for one that is not known, or of no use on `device`."""
    if name not in OFFLOADS:
        raise ValueError(f"unknown offload {name!r}; known: {', '.join(OFFLOADS)}")
    if name == "stream":
        return StreamOffload(device)
    if device.type == "cpu":
        raise ValueError(
            "offload='model' keeps in host memory what the device does not need, and the device is the CPU itself: "
            "offload='stream' leaves the weights on disk"
        )
    return ModelOffload(device)


class ModelOffload:
    """One network at a time is on the device, from its first call to the first call of another.

    The weights in host memory are kept, and those on the device dropped when it is another's turn.
    """

    stream: Stream | None = None

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._turn: str | None = None
        self._homes: dict[str, list[tuple[nn.Module, str, nn.Parameter]]] = {}
        self._networks: dict[str, nn.Module] = {}

    def take(self, networks: Mapping[str, nn.Module]) -> None:
        for name, network in networks.items():
            self._networks[name] = network
            self._homes[name] = [
                (module, key, parameter)
                for module in network.modules()
                for key, parameter in module.named_parameters(recurse=False)
            ]
            # Networks are also entered by the layers inside them.
            for module in {network: None} | {owner: None for owner, _, _ in self._homes[name]}:
                module.register_forward_pre_hook(partial(self._enter, name), with_kwargs=True)

    @contextmanager
    def changing(self) -> Iterator[None]:
        self._leave()
        yield

    def _leave(self) -> None:
        if self._turn is not None:
            for module, key, parameter in self._homes[self._turn]:
                setattr(module, key, parameter)
            self._move_buffers(self._turn, torch.device("cpu"))
        self._turn = None

    def _enter(self, name: str, module: nn.Module, inputs: Any, named: Any) -> Any:
        if self._turn == name:
            return None
        self._leave()
        here: dict[nn.Parameter, nn.Parameter] = {}
        for owner, key, parameter in self._homes[name]:
            if parameter not in here:
                here[parameter] = nn.Parameter(parameter.data.to(self._device), requires_grad=False)
            setattr(owner, key, here[parameter])
        self._move_buffers(name, self._device)
        self._turn = name
        return tree_map_only(torch.Tensor, lambda tensor: tensor.to(self._device), (inputs, named))

    def _move_buffers(self, name: str, device: torch.device) -> None:
        for module in self._networks[name].modules():
            for key, buffer in module.named_buffers(recurse=False):
                setattr(module, key, buffer.to(device))


class StreamOffload:
    """Layers are on the device while they run: from host memory, or if the device is the CPU from the files."""

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
                "offload='stream' on the CPU reads the weights from their files, where a LoRA cannot be merged: load "
                "the pipeline without offload="
            )
        yield
        self._stream.renew()
