"""A backbone and what it is told: everything that does not depend on x is worked out before sampling begins."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from sadaflow.models import Seam

from ..device.indexing import sent, taken

_TABLE = 256 * 2**20


class Backbone(Protocol):
    """A network that answers x (B, C, h, w), a timestep and its conditioning with a prediction as x.

    Tensors of the conditioning have the rows of x.
    """

    def __call__(self, x: Tensor, timestep: float, *, seam: Seam, **conditioning: Any) -> Tensor: ...


@runtime_checkable
class PreparedBackbone(Backbone, Protocol):
    """A backbone whose call has three parts: `prepare` depends on the conditioning alone, `prepare_times` on the time
    too, and `evaluate` on x. Tensors have the rows of x first."""

    def prepare(self, **conditioning: Tensor) -> Mapping[str, Tensor]: ...

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """For timesteps (S, 1), (S, 1 or rows, width)."""
        ...

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam, **settings: Any) -> Tensor: ...


class Conditioned:
    """A backbone with the conditioning of all samples and branches of guidance, asked for some of them at one step.

    `branches` are conditioning by name, (samples, ...) each. What times ask of a `PreparedBackbone` is worked out for
    all of `timesteps` at once, which reads those weights once; where that would take more than 256 MiB, step by step.
    """

    def __init__(
        self, backbone: Backbone, timesteps: Sequence[float], branches: Sequence[Mapping[str, Tensor]]
    ) -> None:
        self.backbone = backbone
        self.timesteps = timesteps
        given: Mapping[str, Tensor] = {name: torch.cat([one[name] for one in branches]) for name in branches[0]}
        self._prepared = backbone if isinstance(backbone, PreparedBackbone) else None
        self._given = given = given if self._prepared is None else self._prepared.prepare(**given)
        self._entries = max((tensor.shape[0] for tensor in given.values()), default=0)
        self.samples = self._entries // len(branches)
        self._taken: tuple[list[int], Mapping[str, Tensor]] = ([], {})
        self._times = self._table()

    def evaluate(self, x: Tensor, step: int, entries: Sequence[int], seam: Seam, settings: Mapping[str, Any]) -> Tensor:
        """The prediction for x (len(entries), ...); an entry is branch * samples + sample."""
        places = list(entries)
        if self._taken[0] != places:
            self._taken = (places, {name: self._take(tensor, places) for name, tensor in self._given.items()})
        given = self._taken[1]
        if self._prepared is None:
            return self.backbone(x, self.timesteps[step], seam=seam, **given, **settings)
        time = self._at(self._prepared, step, step + 1, x.device)[0] if self._times is None else self._times[step]
        return self._prepared.evaluate(x, self._take(time, places), given, seam, **settings)

    def _take(self, batch: Tensor, places: list[int]) -> Tensor:
        """Of a batch what lies at `places`; the batch itself where that is all of it, or where all rows are one."""
        return batch if len(batch) == 1 or places == list(range(self._entries)) else taken(batch, places)

    def _table(self) -> Tensor | None:
        if self._prepared is None or not self._given:
            return None
        device = next(iter(self._given.values())).device
        first = self._at(self._prepared, 0, 1, device)
        fits = first.numel() * first.element_size() * len(self.timesteps) <= _TABLE
        return self._at(self._prepared, 0, len(self.timesteps), device) if fits else None

    def _at(self, backbone: PreparedBackbone, begin: int, end: int, device: torch.device) -> Tensor:
        """What the times of the steps from `begin` up to `end` ask of all entries."""
        timesteps = sent(self.timesteps[begin:end], device, torch.float32)
        return backbone.prepare_times(timesteps[:, None], self._given)
