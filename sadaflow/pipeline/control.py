"""Reads the arguments of a call that concern ControlNets."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..families import Family, Prompted, Request
from ..families.values import listed, real_number
from ..files.images import from_array, from_pil, is_pil


def as_list(value: Any) -> list[Any]:
    """The entries of a list or tuple, or the single value, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


@dataclass(frozen=True)
class Control:
    """The ControlNets' arguments of a call, checked.

    Attributes:
        images: Images (B, nets, 3, H, W), RGB in [0, 1].
        scale: Weight of each ControlNet.
        start: Fraction of the evaluations at which each begins to act.
        end: Fraction at which each ceases to act.
        modes: Condition of each union ControlNet; None for the others.
    """

    images: Tensor
    scale: tuple[float, ...]
    start: tuple[float, ...]
    end: tuple[float, ...]
    modes: tuple[int | None, ...] = ()

    @classmethod
    def of(cls, request: Request, family: Family, nets: int, conditions: bool = False) -> "Control | None":
        """The control of a complete request on a pipeline with `nets` ControlNets; see `read`.

        Args:
            request: The request.
            family: The pipeline's networks.
            nets: Number of the pipeline's ControlNets.
            conditions: Whether the backbone itself reads the picture `control`; see `read_condition`.
        """
        if conditions:
            if nets:
                raise ValueError("control= is read by the network itself: load it without controlnet=")
            return None
        scale, start, end = request.control_scale, request.control_start, request.control_end
        samples, size = len(request.prompts), request.size
        read = cls.read(request.control, scale, start, end, nets=nets, samples=samples, size=size)
        modes = _modes(request.control_mode, nets)
        return None if read is None else replace(read, modes=family.control_modes(modes))  # type: ignore[attr-defined]

    @classmethod
    def read(
        cls, images: Any, scale: Any, start: Any, end: Any, *, nets: int, samples: int, size: tuple[int, int]
    ) -> "Control | None":
        """Check the arguments of a call.

        Args:
            images: An image, or a sequence with one for each ControlNet.
            scale: Weight, or a sequence with one for each ControlNet.
            start: Fraction of the evaluations, likewise.
            end: Fraction of the evaluations, likewise.
            nets: Number of the pipeline's ControlNets.
            samples: Number of samples B.
            size: Height and width in pixels.

        Returns:
            The arguments, or None for a pipeline without ControlNets.

        Raises:
            ValueError: If an argument does not fit. It is named.
        """
        if nets == 0:
            if images is not None:
                raise ValueError("control= needs ControlNets: load the pipeline with controlnet=")
            return None
        if images is None:
            raise ValueError(f"the pipeline was loaded with {nets} ControlNet(s): control= needs an image for each")
        given = as_list(images)
        if len(given) != nets:
            raise ValueError(f"control has {len(given)} image(s) for {nets} ControlNet(s): give one for each")
        scales, starts, ends = per_net(scale, start, end, nets)
        rows = [control_rows(image, samples, size) for image in given]
        return cls(torch.stack(rows, dim=1), scales, starts, ends)

    def beside(self, prompted: Prompted, family: Family, like: Tensor) -> Prompted:
        """The encoded prompts with what the ControlNets of a family read, on the device and in the dtype of `like`."""
        return family.steered(prompted, self.images.to(like), self.modes)  # type: ignore[attr-defined]

    def settings(self, evaluations: int) -> list[dict[str, tuple[float, ...]]]:
        """The further arguments of a network with ControlNets, for each evaluation of the network.

        A ControlNet acts in evaluation i of n if both i/n and (i+1)/n lie between its start and end.
        """
        parts = list(zip(self.scale, self.start, self.end, strict=True))
        scales = [
            tuple(
                scale if i / evaluations >= start and (i + 1) / evaluations <= end else 0.0
                for scale, start, end in parts
            )
            for i in range(evaluations)
        ]
        return [{"control_scales": active} for active in scales]


def per_net(scale: Any, start: Any, end: Any, nets: int) -> tuple[tuple[float, ...], ...]:
    """Scales, starts and ends of the ControlNets, from a single number or one for each of the `nets`."""
    scales = _spread("control_scale", scale, nets)
    starts, ends = _spread("control_start", start, nets), _spread("control_end", end, nets)
    for first, last in zip(starts, ends, strict=True):
        if not 0 <= first < last <= 1:
            raise ValueError(
                f"control_start={first} and control_end={last} do not delimit a part of the steps: "
                "give fractions with 0 <= control_start < control_end <= 1"
            )
    return scales, starts, ends


def _modes(value: Any, nets: int) -> tuple[int | None, ...]:
    """Conditions of the ControlNets, from a single one or one for each of the `nets`."""
    if nets == 0 and value is not None:
        raise ValueError("control_mode= needs ControlNets: load the pipeline with controlnet=")
    modes = value if isinstance(value, tuple) else (value,) * nets
    if len(modes) != nets:
        raise ValueError(f"control_mode has {len(modes)} entries for {nets} ControlNet(s): give one, or one for each")
    return modes


def _spread(name: str, value: Any, nets: int) -> tuple[float, ...]:
    several = listed(value)
    values = [value] * nets if several is None else several
    if len(values) != nets:
        raise ValueError(f"{name} has {len(values)} entries for {nets} ControlNet(s): give one number, or one for each")
    return tuple(real_number(name, entry) for entry in values)


def control_rows(image: Any, samples: int, size: tuple[int, int]) -> Tensor:
    """An image for each sample, (B, 3, H, W)."""
    if is_pil(image) or isinstance(image, np.ndarray):
        read = from_array if isinstance(image, np.ndarray) else from_pil
        try:
            return read(image, size).expand(samples, -1, -1, -1)
        except ValueError as error:
            raise ValueError(f"control: {error}") from error
    if not isinstance(image, Tensor):
        raise ValueError(f"control takes PIL images, arrays and tensors, got {type(image).__name__}")
    rows = image.expand(samples, -1, -1, -1) if image.dim() == 3 else image
    if tuple(rows.shape) != (samples, 3, *size):
        raise ValueError(
            f"control tensor of shape {tuple(image.shape)}, expected {(3, *size)} or {(samples, 3, *size)} for "
            f"pictures of {size[0]}x{size[1]}"
        )
    low, high = (float(value) for value in rows.aminmax())
    if not (rows.is_floating_point() and low >= 0 and high <= 1):
        raise ValueError(f"control tensors are RGB in [0, 1], got {rows.dtype} from {low:.4g} to {high:.4g}")
    return rows
