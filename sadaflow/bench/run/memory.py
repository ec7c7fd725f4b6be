"""Peak memory of a run: bytes of tensors beyond those allocated before, measured alike on every device."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_memory(act: Callable[[], object], device: torch.device) -> int:
    """Measures the peak of allocated bytes while `act` runs, beyond those allocated before.

    On CUDA it is the count of torch's allocator. Elsewhere it is the bytes of tensors that operators return, for as
    long as they are alive; memory that an operator allocates and frees internally is not counted. (Resident memory is
    not used, because freed memory stays with the process.) On the meta device it is what its tensors would take; on
    others, tensors of the meta device do not count.

    Args:
        act: What to measure. It should have run before, because libraries and caches allocate memory that they keep.
        device: Where it runs.

    Returns:
        Bytes.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        act()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _Storages(device.type == "meta") as storages:
        act()
    return storages.peak


class _Storages(TorchDispatchMode):
    """Sums the bytes of storages that were created inside the mode and are alive.

    Args:
        meta: Whether tensors of the meta device are counted, or those of all other devices.
    """

    def __init__(self, meta: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.meta = meta
        self.alive = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, operator: Any, types: Any, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        for holder, key, _ in self._holders((arguments, named)):
            self._note(holder, key, 0)  # inputs that are not known yet existed before the mode
        outputs = operator(*arguments, **(named or {}))
        for holder, key, size in self._holders(outputs):
            self._note(holder, key, size)
        self.peak = max(self.peak, self.alive)
        return outputs

    def _holders(self, tree: Any) -> list[tuple[object, int, int]]:
        """For each tensor that is counted: the object that holds it, a key of that object, and its bytes."""
        tensors = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_meta == self.meta)
        return [_holder(tensor) for tensor in tensors]

    def _note(self, holder: object, key: int, size: int) -> None:
        if key not in self._known:
            self._known.add(key)
            self.alive += size
            weakref.finalize(holder, self._forget, key, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def _holder(tensor: Tensor) -> tuple[object, int, int]:
    if tensor.layout == torch._mkldnn:  # type: ignore[attr-defined]  # laid out by oneDNN: no storage, and no views
        return tensor, id(tensor), tensor.numel() * tensor.element_size()
    storage = tensor.untyped_storage()
    return storage, storage._cdata, storage.nbytes()
