"""A transformer combined with the ControlNets that steer it."""

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from ..embeddings import single_time
from ..seam import Seam, call_through
from ..streams.packed import PATCH
from ..streams.steering import Residuals, Steering
from .parts import joined_times, of_part

_INPUTS: Final = 3
"""Number of tensors that a ControlNet reads in an evaluation."""
OWN: Final = "control_"
"""Start of the names of arguments that the ControlNets read in place of the transformer's of the same name."""


class SteeringNet(Protocol):
    """A ControlNet of a transformer."""

    fields: tuple[str, ...]
    time_width: int
    config: Any

    def read(self, latents: Tensor, mode: Tensor, **conditioning: Tensor) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt and a control picture, as latents (B, C, h, w), share."""
        ...

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes what depends on the time, (S, B, width)."""
        ...

    def inputs(self, x: Tensor, time: Tensor, given: Mapping[str, Tensor], steered: Any) -> tuple[Tensor | None, ...]:
        """Returns what `residuals` reads: tokens, text and modulations."""
        ...

    def residuals(self, *inputs: Tensor | None, size: tuple[int, int]) -> list[Tensor]:
        """Computes a residual (B, N, dim) for each of its blocks."""
        ...

    def targets(self, steered: Any) -> list[int | None]:
        """Returns for each block of the transformer the index of its residual, None for none."""
        ...


class SteeredTransformer(nn.Module):
    """A transformer with ControlNets, called like the transformer alone.

    Args:
        network: the transformer.
        nets: the ControlNets; one that steers by several pictures is listed as often.

    Raises:
        ValueError: if a ControlNet was made for another transformer; the message names the field.
    """

    def __init__(self, network: Any, nets: Sequence[Any]) -> None:
        super().__init__()
        for index, net in enumerate(nets):
            _check_fit(network.config, net, index)
        self.network = network
        self.nets = nn.ModuleList(nets)
        self.sites: frozenset[str] = network.sites

    @property
    def config(self) -> Any:
        """Architecture of the transformer."""
        return self.network.config

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        *,
        control_scales: Sequence[float],
        seam: Seam = call_through,
        **conditioning: Tensor,
    ) -> Tensor:
        """Computes the transformer's prediction with the scaled residuals of all ControlNets added.

        Args:
            x: as of the transformer.
            timestep: likewise.
            control_scales: one factor for each ControlNet; one with factor 0 is not run.
            seam: called at the sites of the transformer.
            **conditioning: as of `prepare`.

        Returns:
            As of the transformer.
        """
        given = self.prepare(**conditioning)
        time = self.prepare_times(single_time(timestep, x.device), given)[0]
        return self.evaluate(x, time, given, seam, control_scales=control_scales)

    def prepare(self, *, control: Tensor, modes: Tensor, **conditioning: Tensor) -> dict[str, Tensor]:
        """Computes what all evaluations of a prompt and its control pictures share.

        Args:
            control: (B, nets, C, h, w), the control picture of each ControlNet as latents.
            modes: (B, nets), control modes; those of ControlNets without modes are not used.
            **conditioning: arguments of the transformer; those whose name begins with "control_" are read by the
                ControlNets in place of those without.
        """
        own = {name.removeprefix(OWN): rows for name, rows in conditioning.items() if name.startswith(OWN)}
        shared = {name: rows for name, rows in conditioning.items() if not name.startswith(OWN)}
        given: dict[str, Tensor] = self.network.prepare(**shared)
        for index, net in enumerate(self._nets):
            read = net.read(control[:, index], modes[:, index], **{**shared, **own})
            given |= {f"{index}.{name}": tensor for name, tensor in read.items()}
        return given

    def prepare_times(self, timesteps: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Computes `prepare_times` of the transformer and of each ControlNet, concatenated along the last axis."""
        return joined_times([self.network, *self._nets], timesteps, given)

    def evaluate(
        self,
        x: Tensor,
        time: Tensor,
        given: Mapping[str, Tensor],
        seam: Seam = call_through,
        *,
        control_scales: Sequence[float],
    ) -> Tensor:
        """Computes the prediction as the transformer's `evaluate` does, with the residuals of the ControlNets.

        A seam that leaves out the transformer's blocks leaves out the ControlNets.
        """
        times = time.split([part.time_width for part in (self.network, *self._nets)], dim=-1)
        active: list[tuple[SteeringNet, float]] = []
        inputs: tuple[Tensor | None, ...] = ()
        for index, (net, scale) in enumerate(zip(self._nets, control_scales, strict=True)):
            if scale != 0:
                active.append((net, scale))
                inputs += net.inputs(x, times[1 + index], of_part(given, index), self.network)
        size = (x.shape[-2] // PATCH, x.shape[-1] // PATCH)
        steering = Steering(partial(self._residuals, active, size), inputs) if active else None
        prediction: Tensor = self.network.evaluate(x, times[0], given, seam, steering=steering)
        return prediction

    @property
    def _nets(self) -> list[SteeringNet]:
        return list(self.nets)  # type: ignore[arg-type]

    def _residuals(
        self, active: Sequence[tuple[SteeringNet, float]], size: tuple[int, int], *inputs: Tensor | None
    ) -> Residuals:
        """Computes what is added after each block; `inputs` are those of all ControlNets, one after the other."""
        scaled, targets = [], []
        for index, (net, scale) in enumerate(active):
            own = inputs[index * _INPUTS : (index + 1) * _INPUTS]
            scaled.append([residual * scale for residual in net.residuals(*own, size=size)])
            targets.append(net.targets(self.network))
        return summed(scaled, targets)


def summed(residuals: Sequence[Sequence[Tensor]], targets: Sequence[Sequence[int | None]]) -> Residuals:
    """Sums the residuals of several ControlNets.

    Args:
        residuals: (B, N, dim) each, by ControlNet.
        targets: for each ControlNet and each block the index of its residual, None for none.
    """
    tensors: list[Tensor] = []
    known: dict[tuple[int | None, ...], int | None] = {}
    for indices in zip(*targets, strict=True):
        if indices in known:
            continue
        parts = [own[index] for own, index in zip(residuals, indices, strict=True) if index is not None]
        known[indices] = len(tensors) if parts else None
        if parts:
            tensors.append(reduce(torch.add, parts))
    return Residuals(tensors, [known[indices] for indices in zip(*targets, strict=True)])


def _check_fit(config: Any, net: SteeringNet, index: int) -> None:
    """Raises ValueError if a ControlNet does not match the transformer of a config."""
    for field in net.fields:
        found, expected = getattr(net.config, field), getattr(config, field)
        if found not in (None, expected):
            raise ValueError(
                f"ControlNet {index} does not fit the transformer: its {field} is {found}, the transformer's {expected}"
            )
