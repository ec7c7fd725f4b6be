"""Copies the weights of a layer to the device for as long as it runs, for networks larger than its memory."""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..loading.weight_source import LayerWeights, ReadLayer

_SMALL = 2**20
_AHEAD = 2**28


def fill(layer: nn.Module, weights: LayerWeights) -> None:
    """Set the own parameters of a layer, by name."""
    for name, tensor in weights.items():
        setattr(layer, name, nn.Parameter(tensor, requires_grad=False))


@dataclass(frozen=True, eq=False)
class _Layer:
    """A module with parameters of its own.

    Attributes:
        module: The module.
        name: Its name in the network.
        read: Reads its weights.
        empty: Its parameters on the meta device, with shapes and dtypes.
    """

    module: nn.Module
    name: str
    read: ReadLayer
    empty: Mapping[str, nn.Parameter]

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.empty.values())

    def clear(self) -> None:
        for name, tensor in self.empty.items():
            setattr(self.module, name, tensor)


class Stream:
    """Streams the layers of networks to a device.

    A layer is a module with parameters of its own, such as a linear map or a convolution. Hooks set its weights when it
    is called and drop them when it returns. Meanwhile a thread fetches the layers that followed it the last time (at
    first, those that are next in the network). The device may still use dropped weights, since the host runs ahead of
    it; no more than `ahead` bytes of them are allowed. Weights thus take at most the memory of the small layers, one
    layer, and twice `ahead`.

    Args:
        device: Where the layers run.
        small: Layers of fewer bytes stay on the device.
        ahead: The most bytes that are fetched in advance; one layer is always fetched.
    """

    def __init__(self, device: torch.device, *, small: int = _SMALL, ahead: int = _AHEAD) -> None:
        self.device = device
        self._small, self._ahead = small, ahead
        self._resident: list[_Layer] = []
        self._next: dict[_Layer, _Layer] = {}
        self._last: _Layer | None = None
        self._fetching: dict[_Layer, Future[LayerWeights]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._cuda = _CudaCopies(device, ahead) if device.type == "cuda" else None

    def add(self, network: nn.Module, read: ReadLayer) -> None:
        """Start to stream the layers of a network; `read` reads the weights of one of them."""
        for name, module in network.named_modules():
            for key, buffer in module.named_buffers(recurse=False):
                setattr(module, key, buffer.to(self.device))
            own = module.named_parameters(recurse=False)
            layer = _Layer(module, name, read, {key: _without_memory(parameter) for key, parameter in own})
            if not layer.empty:
                continue
            if layer.bytes < self._small:
                self._resident.append(layer)
                self._load(layer)
                continue
            layer.clear()
            if self._last is not None:
                self._next[self._last] = layer
            self._last = layer
            module.register_forward_pre_hook(partial(self._enter, layer))
            module.register_forward_hook(partial(self._drop, layer), always_call=True)

    def renew(self) -> None:
        """Copy the resident layers again and drop fetched ones, after weights in host memory have been changed."""
        self._fetching.clear()
        for layer in self._resident:
            self._load(layer)

    def _load(self, layer: _Layer) -> None:
        fill(layer.module, {name: tensor.to(self.device) for name, tensor in layer.read(layer.name).items()})

    def _enter(self, layer: _Layer, module: nn.Module, inputs: Any) -> None:
        if self._last is not None:
            self._next[self._last] = layer
        self._last = layer
        fetching = self._fetching.pop(layer, None)
        weights = self._fetch(layer) if fetching is None else fetching.result()
        if self._cuda is not None:
            self._cuda.record(weights)
        fill(layer.module, weights)
        self._look_ahead(layer)

    def _drop(self, layer: _Layer, module: nn.Module, inputs: Any, output: Any) -> None:
        layer.clear()
        if self._cuda is not None:
            self._cuda.dropped(layer.bytes)

    def _look_ahead(self, layer: _Layer) -> None:
        """Start to fetch the layers that followed this one the last time."""
        upcoming: list[_Layer] = []
        size, following = 0, self._next.get(layer)
        while following is not None and following not in (layer, *upcoming):
            size += following.bytes
            if upcoming and size > self._ahead:
                break
            upcoming.append(following)
            following = self._next.get(following)
        for other in self._fetching.keys() - set(upcoming):  # the order differs from the last time
            self._fetching.pop(other).cancel()
        for other in upcoming:
            if other not in self._fetching:
                self._fetching[other] = self._thread.submit(self._fetch, other)

    def _fetch(self, layer: _Layer) -> LayerWeights:
        weights = layer.read(layer.name)
        if self._cuda is not None:
            return self._cuda.copy(weights)
        return {name: tensor.to(self.device) for name, tensor in weights.items()}


class _CudaCopies:
    """Copies weights from pinned host memory on a separate CUDA stream, in parallel with the computation.

    The host runs ahead of the device, which may still use weights that have been dropped: copies wait while these take
    more than `limit` bytes.
    """

    def __init__(self, device: torch.device, limit: int) -> None:
        self._device, self._limit = device, limit
        self._stream = torch.cuda.Stream(device)
        self._dropped: deque[tuple[int, torch.cuda.Event]] = deque()

    def copy(self, weights: LayerWeights) -> LayerWeights:
        while sum(size for size, _ in tuple(self._dropped)) > self._limit:
            self._dropped.popleft()[1].synchronize()
        with torch.cuda.stream(self._stream):
            copies = {name: _pinned(tensor).to(self._device, non_blocking=True) for name, tensor in weights.items()}
        self._stream.synchronize()
        return copies

    def record(self, weights: LayerWeights) -> None:
        for tensor in weights.values():
            tensor.record_stream(torch.cuda.current_stream(self._device))

    def dropped(self, size: int) -> None:
        self._dropped.append((size, torch.cuda.current_stream(self._device).record_event()))


def _without_memory(parameter: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)


def host_weights(network: nn.Module, *, pin: bool) -> ReadLayer:
    """A function that returns the current parameters of a layer of `network`, which stay in host memory.

    Args:
        network: A network in host memory.
        pin: Whether to move its weights to pinned memory first.
    """
    layers = {name: dict(module.named_parameters(recurse=False)) for name, module in network.named_modules()}
    if pin:
        for parameter in network.parameters():
            parameter.data = _pinned(parameter.data)
    return lambda layer: {name: parameter.data for name, parameter in layers[layer].items()}


def _pinned(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_pinned() else tensor.pin_memory()
