"""A backbone with its conditioning: what does not depend on x is computed before sampling."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from sadaflow.models import Seam

from ..device.indexing import sent, taken

_TABLE = 256 * 2**20  # bytes


class Backbone(Protocol):
    """A network: maps x (B, C, h, w), a timestep and its conditioning, (B, ...) each, to a prediction as x."""

    def __call__(self, x: Tensor, timestep: float, *, seam: Seam, **conditioning: Any) -> Tensor: ...


@runtime_checkable
class PreparedBackbone(Backbone, Protocol):
    """A backbone whose call has three parts, of which only the last depends on x."""

    def prepare(self, **conditioning: Tensor) -> Mapping[str, Tensor]:
        """Computes what depends on the conditioning alone, (B, ...) each."""
        ...

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes what depends on times and conditioning: for timesteps (S, 1), a tensor (S, 1 or B, width)."""
        ...

    def evaluate(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], seam: Seam, **settings: Any) -> Tensor:
        """The prediction for x (B, C, h, w), from the results of the other two."""
        ...


@runtime_checkable
class StagedBackbone(Backbone, Protocol):
    """A backbone of several networks that share their conditioning, of which the timestep chooses one."""

    def stage(self, timestep: float) -> Backbone:
        """The network that is evaluated at a timestep."""
        ...


class Conditioned:
    """A backbone with the conditioning of all samples and guidance branches, evaluated for some of them at a time.

    The time-dependent part of a `PreparedBackbone` is computed for all timesteps at once, which reads those weights
    once, or step by step if the result would take more than 256 MiB.

    Args:
        backbone: The network.
        timesteps: Timestep of each evaluation.
        branches: Conditioning by name for each branch, (samples, ...) each.
    """

    def __init__(
        self, backbone: Backbone, timesteps: Sequence[float], branches: Sequence[Mapping[str, Tensor]]
    ) -> None:
        self.backbone = backbone
        self.timesteps = timesteps
        given: Mapping[str, Tensor] = {name: torch.cat([branch[name] for branch in branches]) for name in branches[0]}
        self._prepared = backbone if isinstance(backbone, PreparedBackbone) else None
        self._given = given = given if self._prepared is None else self._prepared.prepare(**given)
        self._entries = max((tensor.shape[0] for tensor in given.values()), default=0)
        self.samples = self._entries // len(branches)
        self._taken: tuple[list[int], Mapping[str, Tensor]] = ([], {})
        self._times = self._table()

    def evaluate(self, x: Tensor, step: int, entries: Sequence[int], seam: Seam, settings: Mapping[str, Any]) -> Tensor:
        """The prediction for some entries, where an entry is branch * samples + sample.

        Args:
            x: Inputs of the network, (len(entries), ...).
            step: Index of the evaluation.
            entries: The entries.
            seam: Called at the sites of the network.
            settings: Further keyword arguments of the backbone.
        """
        indices = list(entries)
        if self._taken[0] != indices:
            self._taken = (indices, {name: self._take(tensor, indices) for name, tensor in self._given.items()})
        given = self._taken[1]
        if self._prepared is None:
            return self.backbone(x, self.timesteps[step], seam=seam, **given, **settings)
        time = self._at(self._prepared, step, step + 1, x.device)[0] if self._times is None else self._times[step]
        return self._prepared.evaluate(x, self._take(time, indices), given, seam, **settings)

    def _take(self, batch: Tensor, indices: list[int]) -> Tensor:
        """Selects entries of `batch`; returns it unchanged if all are selected or if it broadcasts."""
        return batch if len(batch) == 1 or indices == list(range(self._entries)) else taken(batch, indices)

    def _table(self) -> Tensor | None:
        """The time-dependent part for all timesteps, if it fits."""
        if self._prepared is None or not self._given:
            return None
        device = next(iter(self._given.values())).device
        first = self._at(self._prepared, 0, 1, device)
        fits = first.numel() * first.element_size() * len(self.timesteps) <= _TABLE
        return self._at(self._prepared, 0, len(self.timesteps), device) if fits else None

    def _at(self, backbone: PreparedBackbone, begin: int, end: int, device: torch.device) -> Tensor:
        """The time-dependent part of the steps from `begin` up to `end`, for all entries."""
        timesteps = sent(self.timesteps[begin:end], device, torch.float32)
        return backbone.prepare_times(timesteps[:, None], self._given)


class ConditionedStages:
    """A `StagedBackbone` with the conditioning of all samples; see `Conditioned`.

    What a network can compute before it is evaluated is computed when it is evaluated for the first time, so that
    networks that are offloaded come to the device once.

    Args:
        backbone: The networks.
        timesteps: Timestep of each evaluation.
        branches: Conditioning by name for each branch, (samples, ...) each.
    """

    def __init__(
        self, backbone: StagedBackbone, timesteps: Sequence[float], branches: Sequence[Mapping[str, Tensor]]
    ) -> None:
        self._stages = [backbone.stage(timestep) for timestep in timesteps]
        self._how = timesteps, branches
        self._conditioned: dict[int, Conditioned] = {}
        self.samples = max((len(tensor) for tensor in branches[0].values()), default=0)

    def evaluate(self, x: Tensor, step: int, entries: Sequence[int], seam: Seam, settings: Mapping[str, Any]) -> Tensor:
        """The prediction for some entries; see `Conditioned.evaluate`."""
        stage = self._stages[step]
        if id(stage) not in self._conditioned:
            self._conditioned[id(stage)] = Conditioned(stage, *self._how)
        return self._conditioned[id(stage)].evaluate(x, step, entries, seam, settings)


def conditioned(
    backbone: Backbone, timesteps: Sequence[float], branches: Sequence[Mapping[str, Tensor]]
) -> Conditioned | ConditionedStages:
    """A backbone with its conditioning; arguments as in `Conditioned`."""
    if isinstance(backbone, StagedBackbone):
        return ConditionedStages(backbone, timesteps, branches)
    return Conditioned(backbone, timesteps, branches)
