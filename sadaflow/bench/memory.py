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
    allocator counts, elsewhere the storages that operators return, while any tensor holds them; what one operator takes
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
        for storage in _storages((arguments, named)):
            self._note(storage, 0)  # views are of these; what is not known yet was there before
        answer = operator(*arguments, **(named or {}))
        for storage in _storages(answer):
            self._note(storage, storage.nbytes())
        self.peak = max(self.peak, self.alive)
        return answer

    def _note(self, storage: torch.UntypedStorage, size: int) -> None:
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self.alive += size
            weakref.finalize(storage, self._forget, storage._cdata, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
