"""A simulated device: its tensors are computed on the CPU, and every launch and every read by the host is counted.

An operation on a tensor of the device is a launch, unless it only makes a view or allocates memory. A read is a wait of
the host for the device: for a number that is copied to it, or, after a copy that does not wait (`Readback`), at its
first use, unless something queued later has been waited for in between. Operations that mix tensors of the device and
of the host raise, as on CUDA. Indexing by a list and `torch.tensor(..., device=...)` copy from pageable memory, for
which the host waits there; they are counted as waits.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

DEVICE = torch.device("lazy", 0)  # a device type that torch knows by name but is not built with

_aten = torch.ops.aten
_READS = {
    _aten._local_scalar_dense,
    _aten.nonzero,
    _aten.masked_select,
    _aten.equal,
    _aten.is_nonzero,
    _aten._unique2,
    _aten.unique_dim,
}
_FREE = {_aten.detach, _aten.alias, _aten.lift_fresh, _aten._unsafe_view, _aten._reshape_alias}
_CPU = torch.device("cpu")


class DeviceTensor(Tensor):
    """A tensor of the simulated device; `held` is the same on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "DeviceTensor":
        made: DeviceTensor = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            requires_grad=False,
        )
        made.held = held
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.tolist, Tensor.numpy):  # torch refuses both to subclasses
            return func(args[0].cpu())
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _computed(func, args, kwargs or {})  # outside of `Simulated`, where nothing is counted


class Arriving(Tensor):
    """A copy on the host that arrives later; the host waits for it when it is first used."""

    queue: "Simulated"
    number: int

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            for one in _tensors((args, kwargs or {})):
                if isinstance(one, Arriving):
                    one.queue.wait(one.number)
            return func(*args, **(kwargs or {}))


class Simulated(TorchDispatchMode):
    """Context manager that counts "launch", "fetch", "read", "wait" and "send" operations of the device.

    A fetch is a copy to the host that does not wait.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()
        self._queued = self._done = 0  # operations queued, and of them those known to be done
        self._copies = _Copies(self.counts)

    def __enter__(self) -> "Simulated":
        self._copies.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *failure: Any) -> None:
        super().__exit__(*failure)  # type: ignore[no-untyped-call]
        self._copies.__exit__(*failure)  # type: ignore[no-untyped-call]

    def wait(self, number: int) -> None:
        """Waits for all operations up to `number`: a read, unless they are known to be done."""
        if number > self._done:
            self._done = number
            self.counts["read"] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        what = _kind(func, args, kwargs)
        if what is None:
            return _computed(func, args, kwargs)
        self._queued += 1
        if what == "read":
            self.wait(self._queued)
        else:
            self.counts[what] += 1
        made = _computed(func, args, kwargs)
        if what == "fetch":
            made = made.as_subclass(Arriving)
            made.queue, made.number = self, self._queued
        return made


class _Copies(TorchFunctionMode):
    """Lets numbers reach the device where torch reads them from Python's memory, and counts that as a wait."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and _on_device(kwargs.get("device")):
            self.counts["wait"] += 1
            return DeviceTensor(func(*args, **{**kwargs, "device": _CPU}))
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], DeviceTensor):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            lists = [isinstance(part, list) for part in index]
            if any(lists):
                self.counts["wait"] += 1
                index = tuple(
                    DeviceTensor(torch.tensor(part)) if listed else part
                    for part, listed in zip(index, lists, strict=True)
                )
                return func(args[0], index, *args[2:])
        return func(*args, **kwargs)


def moved(tensor: Tensor) -> DeviceTensor:
    """Copies a CPU tensor to the simulated device."""
    return DeviceTensor(tensor.detach().clone(memory_format=torch.preserve_format))


def move(network: nn.Module) -> nn.Module:
    """Moves the parameters and buffers of `network` to the simulated device."""
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(moved(parameter), requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, moved(buffer))
    return network


def bare(tensor: Any) -> Any:
    """Returns the CPU tensor behind a tensor of the device; any other value unchanged."""
    return tensor.held if isinstance(tensor, DeviceTensor) else tensor


def uncounted(act: Callable[..., Any]) -> Callable[..., Any]:
    """Runs `act` on the host: arguments and results are copied without being counted."""

    def on_host(*args: Any, **kwargs: Any) -> Any:
        bare_args, bare_kwargs = tree_map(bare, (args, kwargs))
        with _disable_current_modes():
            made = act(*bare_args, **bare_kwargs)
        return tree_map_only(Tensor, DeviceTensor, made)

    return on_host


def shown(seam: Any, counter: Simulated) -> Any:
    """A seam for a network that computes on the host, uncounted: `seam` is given tensors of the device, and counted."""

    def on_device(site: Any, fn: Any, hidden: Tensor, *args: Tensor | None) -> Tensor:
        on_host = site._replace(probe=site.probe and uncounted(site.probe))
        others = [None if tensor is None else DeviceTensor(tensor) for tensor in args]
        with counter:
            made = seam(on_host, uncounted(fn), DeviceTensor(hidden), *others)
        computed: Tensor = bare(made)
        return computed

    return on_device


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _kind(func: Any, args: Any, kwargs: Any) -> str | None:
    """Returns what the device does for an operation, None if nothing.

    Raises:
        ValueError: If its tensors are on two devices.
    """
    tensors, packet = _tensors((args, kwargs)), func.overloadpacket
    here = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
    target = kwargs.get("device")
    if not here:
        return "send" if tensors and _on_device(target) else None  # filling new memory is a separate operation
    if packet is _aten._to_copy and kwargs.get("non_blocking") and not _on_device(target):
        return "fetch"
    if packet in _READS or (target is not None and not _on_device(target)) or _masks(packet, args):
        return "read"
    strangers = [one for one in tensors if not isinstance(one, DeviceTensor) and one.ndim > 0]
    if strangers and packet is _aten.copy_:
        return "send" if isinstance(args[0], DeviceTensor) else "read"
    if strangers:
        raise ValueError(f"{func} mixes tensors of the device with one of the host, {tuple(strangers[0].shape)}")
    if packet in _FREE or func.is_view or "empty" in packet.__name__:
        return None
    return "launch"


def _masks(packet: Any, args: Sequence[Any]) -> bool:
    """Returns whether an operation indexes by a mask, so that the host must know the number of elements."""
    if packet not in (_aten.index, _aten.index_put, _aten.index_put_):
        return False
    return any(index is not None and index.dtype == torch.bool for index in args[1])


def _on_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Computes an operation on the CPU, and returns the result on the device where torch would put it."""
    inputs = [one for one in _tensors((args, kwargs)) if isinstance(one, DeviceTensor)]
    target = kwargs.get("device")
    on_device = bool(inputs) if target is None else _on_device(target)
    if target is not None:
        kwargs = {**kwargs, "device": _CPU}
    bare_args, bare_kwargs = tree_map(bare, (args, kwargs))
    made = func(*bare_args, **bare_kwargs)
    if not on_device:
        copied = func.overloadpacket is _aten._to_copy
        return tree_map_only(Tensor, Tensor.clone, made) if copied and inputs else made
    known = {id(one.held): one for one in inputs}  # an in-place operation returns its input
    return tree_map_only(Tensor, lambda one: known[id(one)] if id(one) in known else DeviceTensor(one), made)
