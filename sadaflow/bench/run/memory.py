"""Peak memory of a run: bytes in tensors beyond those alive before it, the same measure on every device."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_memory(act: Callable[[], object], device: torch.device) -> int:
    """Bytes alive at most while `act` runs, beyond those before.

    Something like it should have run before: libraries and caches take what they then keep. On CUDA it is what torch's
    allocator counts, elsewhere what operators return, while any tensor holds it; what one operator takes
    and gives back inside is not seen. Resident memory would be no measure, since what is freed stays with the process.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        act()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _Storages() as storages:
        act()
    return storages.peak


class _Storages(TorchDispatchMode):
    """Sums the storages that came into being in it and are alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, operator: Any, types: Any, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        for holder, key, _ in _holders((arguments, named)):
            self._note(holder, key, 0)  # views are of these; what is not known yet was there before
        answer = operator(*arguments, **(named or {}))
        for holder, key, size in _holders(answer):
            self._note(holder, key, size)
        self.peak = max(self.peak, self.alive)
        return answer

    def _note(self, holder: object, key: int, size: int) -> None:
        if key not in self._known:
            self._known.add(key)
            self.alive += size
            weakref.finalize(holder, self._forget, key, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def _holders(tree: Any) -> list[tuple[object, int, int]]:
    """What holds the memory of each tensor that has any, a key to know it by, and its bytes."""
    return [_holder(leaf) for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.device.type != "meta"]


def _holder(tensor: Tensor) -> tuple[object, int, int]:
    if tensor.layout == torch._mkldnn:  # type: ignore[attr-defined]  # laid out by oneDNN: no storage, and no views
        return tensor, id(tensor), tensor.numel() * tensor.element_size()
    storage = tensor.untyped_storage()
    return storage, storage._cdata, storage.nbytes()
