"""Checks of what a user gives to `Denoiser.wrap`, before the first evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sadaflow.solvers import Point, Prediction, Schedule, to_x0
from sadaflow.solvers.grid import point_at

from .guided import Guided
from .network import Network


def check_prediction(prediction: Prediction, schedule: Schedule) -> None:
    """Raises ValueError if a prediction type is unknown, or is not defined on the schedule."""
    require_x0(prediction, [point_at(schedule, (schedule.t_max + schedule.t_min) / 2)])


def require_x0(prediction: Prediction, points: Sequence[Point]) -> None:
    """Raises ValueError if a prediction does not determine x0 at one of the points, as epsilon at pure noise."""
    for point in points:
        to_x0(prediction, torch.zeros(1), torch.zeros(1), point.alpha, point.sigma)


def read_conditioning(conditioning: Mapping[str, Any]) -> dict[str, Tensor]:
    """Conditioning as tensors.

    Raises:
        ValueError: if a value has no rows, or another number of them than the others.
    """
    read: dict[str, Tensor] = {}
    for name, value in conditioning.items():
        try:
            tensor = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            tensor = torch.empty(())
        if tensor.dim() == 0:
            raise ValueError(
                f"conditioning[{name!r}] must be a tensor with a row for each sample, got {value!r}; what is the same "
                "for all samples belongs into NetworkCall(shared=)"
            )
        read[name] = tensor
    rows = {name: len(tensor) for name, tensor in read.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"conditioning has different numbers of samples: {rows}")
    return read


def check_guidance(guided: Guided, conditioning: Mapping[str, Tensor]) -> None:
    """Raises ValueError if guidance has no negative branch, or a branch that does not fit the conditioning."""
    if guided.scale != 1 and not guided.acts:
        how = (
            "a null label, as Guided(scale, negative={'y': 1000}), or a second network"
            if conditioning
            else "a second network, as Guided(scale, network=weaker), since this one has no conditioning"
        )
        shown = f"{guided.scale:g}" if isinstance(guided.scale, int | float) else repr(guided.scale)
        raise ValueError(f"guidance={shown} needs a negative branch: give {how}")
    if guided.channels is not None and guided.channels < 1:
        raise ValueError(f"Guided.channels must be at least 1, got {guided.channels}")
    if guided.acts and guided.rule.further != len(guided.others):
        raise ValueError(
            f"the guidance rule combines {guided.rule.further} further conditions, and Guided.others has "
            f"{len(guided.others)}: give the arguments of each, as others=({{'y': 3}},) with Compose(weights=(0.5,))"
        )
    if guided.network is not None and guided.others:
        raise ValueError("Guided.others does not combine with a second network")
    if guided.negative is not None and guided.network is None:
        _check_branch("Guided.negative", guided.negative, conditioning)
    for index, other in enumerate(guided.others):
        _check_branch(f"Guided.others[{index}]", other, conditioning)


def _check_branch(label: str, given: Mapping[str, Any], conditioning: Mapping[str, Tensor]) -> None:
    """Raises ValueError if the arguments of a branch are not among the conditioning, or have another shape."""
    for name, value in given.items():
        if name not in conditioning:
            raise ValueError(
                f"{label} names {name!r}, which conditioning lacks: {', '.join(conditioning) or 'it is empty'}"
            )
        shape, own = tuple(torch.as_tensor(value).shape), tuple(conditioning[name].shape)
        if shape not in ((), own):
            raise ValueError(f"{label}[{name!r}] has the shape {shape}, conditioning[{name!r}] {own}")


def check_bound(network: Network, conditioning: Mapping[str, Tensor], noise: Tensor) -> None:
    """Checks a network and its conditioning against the noise of a run.

    Raises:
        ValueError: if samples, devices or dtypes do not agree.
    """
    devices = {str(weight.device): None for weight in network.weights}
    if devices and str(noise.device) not in devices:
        raise ValueError(f"the network is on {', '.join(devices)}, the noise on {noise.device}: move one of them")
    dtypes = {weight.dtype for weight in network.weights}
    for name, value in conditioning.items():
        if len(value) != len(noise):
            raise ValueError(f"conditioning[{name!r}] has {len(value)} rows for {len(noise)} samples of noise")
        if value.device != noise.device:
            raise ValueError(f"conditioning[{name!r}] is on {value.device}, the noise on {noise.device}: move it there")
        if value.is_floating_point() and len(dtypes) == 1 and value.dtype not in dtypes:
            own = next(iter(dtypes))
            raise ValueError(f"conditioning[{name!r}] is {value.dtype}, the network's weights are {own}: convert it")
