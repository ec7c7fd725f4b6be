"""Weights that come to the device when their layer runs, and go when it has run: a network larger than the memory."""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..loading.weight_source import Read, Weights

_SMALL = 2**20
_AHEAD = 2**28


def fill(layer: nn.Module, weights: Weights) -> None:
    """Give a layer these parameters of its own."""
    for name, tensor in weights.items():
        setattr(layer, name, nn.Parameter(tensor, requires_grad=False))


@dataclass(frozen=True, eq=False)
class _Layer:
    """A module with parameters of its own. `empty` are they without memory, in the shapes and dtypes that they have."""

    module: nn.Module
    name: str
    read: Read
    empty: Mapping[str, nn.Parameter]

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.empty.values())

    def clear(self) -> None:
        for name, tensor in self.empty.items():
            setattr(self.module, name, tensor)


class Stream:
    """Streams the layers of the networks that it is given to `device`; it owns what hooks on them need to know.

    A layer is a module with parameters of its own: a linear map, a convolution. Layers of less than `small` bytes stay;
    each other has its weights from the moment it is called to the moment it answers, by whatever way it is reached.
    Meanwhile those that came after it the last time (at first, in the order of registration) are fetched by a thread:
    up to `ahead` bytes of them, or one layer. At most as much is held by what the device has not finished with, so that
    weights never take more than what stays, one layer, and twice `ahead`.
    """

    def __init__(self, device: torch.device, *, small: int = _SMALL, ahead: int = _AHEAD) -> None:
        self.device = device
        self._small, self._ahead = small, ahead
        self._staying: list[_Layer] = []
        self._following: dict[_Layer, _Layer] = {}
        self._last: _Layer | None = None
        self._coming: dict[_Layer, Future[Weights]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._cuda = _CudaCopies(device, ahead) if device.type == "cuda" else None

    def add(self, network: nn.Module, read: Read) -> None:
        """Stream the layers of `network` from now on, as `read` gives their weights by their names in it."""
        for name, module in network.named_modules():
            for key, buffer in module.named_buffers(recurse=False):
                setattr(module, key, buffer.to(self.device))
            own = module.named_parameters(recurse=False)
            layer = _Layer(module, name, read, {key: _without_memory(parameter) for key, parameter in own})
            if not layer.empty:
                continue
            if layer.bytes < self._small:
                self._staying.append(layer)
                self._stay(layer)
                continue
            layer.clear()
            if self._last is not None:
                self._following[self._last] = layer
            self._last = layer
            module.register_forward_pre_hook(partial(self._bring, layer))
            module.register_forward_hook(partial(self._let_go, layer), always_call=True)

    def renew(self) -> None:
        """Fetch again whatever is on the device: weights in memory have been changed."""
        self._coming.clear()
        for layer in self._staying:
            self._stay(layer)

    def _stay(self, layer: _Layer) -> None:
        fill(layer.module, {name: tensor.to(self.device) for name, tensor in layer.read(layer.name).items()})

    def _bring(self, layer: _Layer, module: nn.Module, inputs: Any) -> None:
        if self._last is not None:
            self._following[self._last] = layer
        self._last = layer
        coming = self._coming.pop(layer, None)
        weights = self._fetch(layer) if coming is None else coming.result()
        if self._cuda is not None:
            self._cuda.arrived(weights)
        fill(layer.module, weights)
        self._look_ahead(layer)

    def _let_go(self, layer: _Layer, module: nn.Module, inputs: Any, output: Any) -> None:
        layer.clear()
        if self._cuda is not None:
            self._cuda.leaving(layer.bytes)

    def _look_ahead(self, layer: _Layer) -> None:
        wanted: list[_Layer] = []
        size, following = 0, self._following.get(layer)
        while following is not None and following not in (layer, *wanted):
            size += following.bytes
            if wanted and size > self._ahead:
                break
            wanted.append(following)
            following = self._following.get(following)
        for other in self._coming.keys() - set(wanted):  # it went another way than the last time
            self._coming.pop(other).cancel()
        for other in wanted:
            if other not in self._coming:
                self._coming[other] = self._thread.submit(self._fetch, other)

    def _fetch(self, layer: _Layer) -> Weights:
        weights = layer.read(layer.name)
        if self._cuda is not None:
            return self._cuda.copy(weights)
        return {name: tensor.to(self.device) for name, tensor in weights.items()}


class _CudaCopies:
    """Copies from pinned host memory on a CUDA stream of their own, beside the computation.

    The host runs ahead of the device, where weights that it has let go are still in use: copies wait while these are
    more than `limit` bytes.
    """

    def __init__(self, device: torch.device, limit: int) -> None:
        self._device, self._limit = device, limit
        self._stream = torch.cuda.Stream(device)
        self._leaving: deque[tuple[int, torch.cuda.Event]] = deque()

    def copy(self, weights: Weights) -> Weights:
        while sum(size for size, _ in tuple(self._leaving)) > self._limit:
            self._leaving.popleft()[1].synchronize()
        with torch.cuda.stream(self._stream):
            copies = {name: _pinned(tensor).to(self._device, non_blocking=True) for name, tensor in weights.items()}
        self._stream.synchronize()
        return copies

    def arrived(self, weights: Weights) -> None:
        for tensor in weights.values():
            tensor.record_stream(torch.cuda.current_stream(self._device))

    def leaving(self, size: int) -> None:
        self._leaving.append((size, torch.cuda.current_stream(self._device).record_event()))


def _without_memory(parameter: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)


def host_weights(network: nn.Module, *, pin: bool) -> Read:
    """Gives the parameters of the layers of a network in host memory, where they stay, as they are at that time."""
    layers = {name: dict(module.named_parameters(recurse=False)) for name, module in network.named_modules()}
    if pin:
        for parameter in network.parameters():
            parameter.data = _pinned(parameter.data)
    return lambda layer: {name: parameter.data for name, parameter in layers[layer].items()}


def _pinned(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_pinned() else tensor.pin_memory()
