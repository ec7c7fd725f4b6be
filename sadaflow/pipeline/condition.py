"""Pictures that the network itself reads beside the latents: depth maps, and the control pictures of Flux.1."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sadaflow.models import Autoencoder

from ..families import Family, Request
from ..families.encoding import encode_images
from ..families.unet import CONDITIONS, DEPTH
from ..files.pictures import grey, open_picture, size_of
from .begin import Beginning
from .control import control_rows


@dataclass(frozen=True)
class Condition:
    """The pictures `control` of a call whose network reads them.

    Attributes:
        rows: Depth (1 or B, 1, h, w) in [-1, 1] at the size of the latents; or pictures (B, 3, H, W) in [0, 1].
        depth: Whether it is depth.
    """

    rows: Tensor
    depth: bool

    def encoded(self, family: Family, device: torch.device) -> Tensor:
        """What the network reads, (1 or B, channels, h, w): depth as it is, and the latents of pictures."""
        rows = self.rows.to(device)
        if self.depth:
            return rows
        assert isinstance(family.vae, Autoencoder)
        return encode_images(family.vae, 2 * rows - 1)


def read_condition(request: Request, family: Family) -> Condition | None:
    """Read the pictures `control` of a complete request for the network; None if the network reads none.

    Raises:
        ValueError: If a picture does not fit, or if arguments of ControlNets are given.
    """
    reads = getattr(family, "reads", None)
    if reads not in CONDITIONS:
        return None
    for name, default in (("control_scale", 1.0), ("control_start", 0.0), ("control_end", 1.0), ("control_mode", None)):
        if getattr(request, name) != default:
            raise ValueError(f"{name}= is for ControlNets; this checkpoint reads control= by itself: leave it out")
    picture = request.control
    if isinstance(picture, list) and len(picture) == 1:
        picture = picture[0]
    if reads != DEPTH:
        return Condition(control_rows(picture, len(request.prompts), request.size), depth=False)
    height, width = (side // family.vae.config.downscale for side in request.size)
    return Condition(depth_latents(picture, (height, width), len(request.prompts)), depth=True)


def with_condition(
    begun: Beginning, condition: Condition | None, family: Family, device: torch.device
) -> Beginning:
    """What a call starts from, with the pictures that its network reads beside the latents."""
    return begun if condition is None else replace(begun, beside=condition.encoded(family, device))


def depth_latents(picture: Any, size: tuple[int, int], samples: int) -> Tensor:
    """Depth maps at the size of the latents, (1 or B, 1, h, w), stretched to [-1, 1] as published.

    Args:
        picture: A grey picture, or a tensor (H, W), (1, H, W) or (B, 1, H, W) of any finite values; near is large.
        size: Height and width of the latents.
        samples: Number of samples B.

    Raises:
        ValueError: If it is not a depth map, or the same everywhere.
    """
    try:
        depth = picture if isinstance(picture, Tensor) else grey(opened := open_picture(picture), size_of(opened))
        maps = depth.reshape(-1, 1, *depth.shape[-2:]).float() if depth.dim() in (2, 3, 4) else depth
        if maps.dim() != 4 or len(maps) not in (1, samples) or (depth.dim() > 2 and depth.shape[-3] != 1):
            raise ValueError(f"a depth map is (H, W), (1, H, W) or ({samples}, 1, H, W), got {tuple(depth.shape)}")
        if not bool(torch.isfinite(maps).all()):
            raise ValueError("the depth map holds NaN or infinity")
        small = F.interpolate(maps, size=size, mode="bicubic", align_corners=False)
        low, high = small.amin(dim=(1, 2, 3), keepdim=True), small.amax(dim=(1, 2, 3), keepdim=True)
        if not bool((high > low).all()):
            raise ValueError("the depth map is the same everywhere, and is stretched to its range")
    except ValueError as error:
        raise ValueError(f"control: {error}") from error
    return 2 * (small - low) / (high - low) - 1
