"""Reads the pictures and masks of a call: their size, their range, and one for all samples or one for each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sadaflow.models import Autoencoder

from ..families import AudioFamily, Family, Request, VideoFamily
from ..families.hooks import REFERENCE
from ..families.unet import FIRST_FRAME
from ..files.pictures import open_picture, rgb, size_of
from .mask_crop import Crop, crop_of, pasted
from .masks import WHITE, about, check_size, read_mask

Size = tuple[int, int]
SHORTEST = 1024
"""Samples of the shortest sound that is read, a window of its spectrogram."""


@dataclass(frozen=True)
class Pictures:
    """The pictures and masks of a call at the size made; the first axis has one entry for all samples or one for each.

    Attributes:
        size: Height and width in pixels.
        images: RGB (1 or B, 3, H, W) in [-1, 1], or log-mel spectrograms (1, 1, frames, mels); None if latents were
            given.
        latents: Latents (1 or B, C, h, w) in the backbone's scaling, if they were given in place of pictures.
        mask: Grey (1 or B, 1, H, W), from 0 (kept) to 1 (repainted); None if there is none.
        crops: The parts of the pictures that are repainted; empty if they are repainted whole.
        originals: The pictures as they were opened, in their own size, if a network reads them so.
    """

    size: Size
    images: Tensor | None = None
    latents: Tensor | None = None
    mask: Tensor | None = None
    crops: tuple[Crop, ...] = ()
    originals: tuple[Any, ...] = ()

    @property
    def seen(self) -> dict[str, Tensor | None]:
        """What processes that sample together must agree on, by argument."""
        return {"image": self.latents if self.images is None else self.images, "mask": self.mask}

    def to(self, device: torch.device) -> "Pictures":
        """A copy with all tensors but those of the crops on `device`."""
        images, latents, mask = (None if t is None else t.to(device) for t in (self.images, self.latents, self.mask))
        return replace(self, images=images, latents=latents, mask=mask)

    def finished(self, made: Tensor, paste: bool) -> Tensor:
        """The pictures made (B, 3, H, W) in [0, 1], put back where they were cropped, or under their masks."""
        if self.crops:
            crops = self.crops * (len(made) // len(self.crops))
            return torch.stack([crop.restored(part) for crop, part in zip(crops, made.cpu(), strict=True)])
        if not paste or self.mask is None or self.images is None:
            return made
        return pasted(made, self.images.to(made) / 2 + 0.5, self.mask.to(made))

    def sized(self, request: Request) -> Request:
        """The request with the size of the pictures, unless its noise decides the size."""
        return request if request.noise is not None else replace(request, height=self.size[0], width=self.size[1])

    @property
    def repainted(self) -> Tensor | None:
        """Where the mask is at least one half, bool (1 or B, 1, H, W)."""
        return None if self.mask is None else self.mask >= WHITE

    def repainted_latents(self, factor: int) -> Tensor | None:
        """Which latent positions are repainted, bool (1 or B, 1, h, w): those whose first pixel is, as published."""
        return None if self.repainted is None else self.repainted[..., ::factor, ::factor]


def read_pictures(request: Request, family: Family) -> Pictures | None:
    """Read the pictures and masks of a request.

    A picture keeps its own size, rounded down to whole tokens, unless the request gives another; it is then stretched
    to it by the Lanczos filter. Tensors are never resized.

    Args:
        request: The request.
        family: The checkpoint's networks.

    Returns:
        The pictures; None for a request without any, and for a family that reads them itself.

    Raises:
        ValueError: If a picture cannot be read or does not fit. The argument is named.
    """
    if not request.starts_from_data or not request.prompts or getattr(family, "reads", None) == REFERENCE:
        return None
    if isinstance(family, AudioFamily):
        return _sound(request, family)
    if request.audio is not None:
        raise ValueError("audio= starts from a sound, and this checkpoint makes pictures: leave it out")
    if not isinstance(family.vae, Autoencoder):
        raise ValueError(f"image= needs an autoencoder, and {type(family).__name__} checkpoints have none")
    if isinstance(family, VideoFamily):
        return _first_frames(request, family)
    samples, latents = len(request.prompts), latents_of(request.image, family.latent_channels)
    if latents is not None:
        return _from_latents(request, latents, family, samples)
    if not family.vae.encodes:
        raise ValueError("image= needs an encoder, and the file given as vae= holds a decoder alone")
    images = _entries("image", request.image, samples)
    masks = [] if request.mask is None else _entries("mask", request.mask, samples)
    if request.padding_mask_crop is not None:
        return _cropped(request, images, masks, _asked_size(request, family, family.default_size))
    size = _asked_size(request, family, _common_size(images, family))
    pixels = torch.stack([_pixels(image, size, index) for index, image in enumerate(images)])
    return Pictures(size, _signed(pixels, images), None, _mask_rows(request, masks, size))


def _first_frames(request: Request, family: Family) -> Pictures:
    """The pictures that a video begins with, stretched to its size, which is not that of the pictures."""
    if getattr(family, "reads", None) != FIRST_FRAME:
        raise ValueError("image= has no effect on this checkpoint, which makes video from text alone: leave it out")
    images = _entries("image", request.image, len(request.prompts))
    size = _asked_size(request, family, family.default_size)
    pixels = torch.stack([_pixels(image, size, index) for index, image in enumerate(images)])
    return Pictures(size, _signed(pixels, images), originals=tuple(images))


def _sound(request: Request, family: Any) -> Pictures:
    """The spectrogram of the sound of a request, in whole latent positions."""
    from ..files.sound import read_sound  # imports scipy, which pictures do without

    if request.image is not None:
        raise ValueError("image= starts from a picture, and this checkpoint makes sound: give audio=")
    for name in ("seconds", "height", "noise"):
        if getattr(request, name) is not None:
            raise ValueError(f"{name}= and audio= both give the length: leave one out")
    if request.strength == 0:
        raise ValueError("strength=0 changes nothing of the sound: give more, up to 1")
    factor, rate = family.vae.config.downscale, family.sample_rate
    waveform = read_sound(request.audio, rate)
    frames = int(len(waveform) / (family.frame_seconds * rate)) // factor * factor
    least = max(factor * family.frame_seconds, SHORTEST / rate)
    if frames < factor or len(waveform) < SHORTEST:
        raise ValueError(f"audio: a sound of {len(waveform) / rate:.3g} s is shorter than {least:.3g} s")
    spectrogram = family.spectrogram(waveform)[:frames]
    return Pictures((frames, spectrogram.shape[1]), images=spectrogram[None, None])


def latents_of(image: Any, channels: int) -> Tensor | None:
    """The latents (1 or B, C, h, w) given in place of pictures: tensors with the channels of latents; else None."""
    tensors = list(image) if isinstance(image, (list, tuple)) else [image]
    if not tensors or not all(isinstance(t, Tensor) and t.dim() in (3, 4) and t.shape[-3] == channels for t in tensors):
        return None
    rows = [tensor if tensor.dim() == 4 else tensor[None] for tensor in tensors]
    if len({row.shape[1:] for row in rows}) > 1:
        raise ValueError(f"image: latents of different shapes: {', '.join(str(tuple(row.shape)) for row in rows)}")
    latents = torch.cat(rows)
    if not latents.is_floating_point() or not bool(torch.isfinite(latents).all()):
        raise ValueError(f"image: a tensor of {channels} channels is latents, of finite floats; got {latents.dtype}")
    return latents.float()


def _from_latents(request: Request, latents: Tensor, family: Family, samples: int) -> Pictures:
    factor = family.vae.config.downscale
    size = (latents.shape[2] * factor, latents.shape[3] * factor)
    _check_number("image", len(latents), samples)
    for name in ("padding_mask_crop", "paste"):
        if getattr(request, name):
            raise ValueError(f"{name}= needs the picture itself, and image= holds latents")
    for name, given, own in zip(("height", "width"), (request.height, request.width), size, strict=True):
        if given not in (None, own):
            raise ValueError(f"{name}={given}, but the latents image= are those of {size[0]}x{size[1]} pixels")
    masks = [] if request.mask is None else _entries("mask", request.mask, samples)
    return Pictures(size, None, latents, _mask_rows(request, masks, size))


def _entries(name: str, value: Any, samples: int) -> list[Any]:
    """The opened pictures of an argument: one for all samples, or one for each."""
    if isinstance(value, (list, tuple)):
        given = list(value)
    elif isinstance(value, (Tensor, np.ndarray)) and value.ndim == 4:
        given = list(value)
    else:
        given = [value]
    _check_number(name, len(given), samples)
    return [_opened(picture, name, index) for index, picture in enumerate(given)]


def _opened(picture: Any, name: str, index: int) -> Any:
    with about(name, index):
        return picture if isinstance(picture, Tensor) else open_picture(picture)


def _check_number(name: str, given: int, samples: int) -> None:
    if given not in (1, samples):
        raise ValueError(f"{name} has {given} pictures for {samples} prompt(s): give one for all, or one for each")


def _asked_size(request: Request, family: Family, own: Size) -> Size:
    """The size of the request, or that of its noise; `own` for a side that it leaves open."""
    if isinstance(request.noise, Tensor) and request.noise.dim() in (4, 5):
        factor = family.vae.config.downscale
        return request.noise.shape[-2] * factor, request.noise.shape[-1] * factor
    return request.height or own[0], request.width or own[1]


def _common_size(images: Sequence[Any], family: Family) -> Size:
    """The size of all pictures, rounded down to whole tokens."""
    unit = family.vae.config.downscale * family.patch
    sizes = [tuple(image.shape[-2:]) if isinstance(image, Tensor) else size_of(image) for image in images]
    floored = {(height // unit * unit, width // unit * unit) for height, width in sizes}
    if len(floored) > 1:
        shown = ", ".join(f"{height}x{width}" for height, width in sizes)
        raise ValueError(f"image: pictures of several sizes ({shown}) in one call: give height= and width= for all")
    size = floored.pop()
    if 0 in size:
        raise ValueError(f"image: a picture of {sizes[0][0]}x{sizes[0][1]} pixels is smaller than {unit}x{unit}")
    return size


def _pixels(picture: Any, size: Size, index: int) -> Tensor:
    """RGB (3, H, W), in [0, 1] or as the tensor is."""
    with about("image", index):
        if not isinstance(picture, Tensor):
            return rgb(picture, size)
        if picture.dim() != 3 or picture.shape[0] != 3:
            raise ValueError(f"a tensor of shape {tuple(picture.shape)} is not a picture: expected (3, H, W)")
        check_size(picture, size)
        if not picture.is_floating_point() or not bool(torch.isfinite(picture).all()):
            raise ValueError(f"a tensor of {picture.dtype} must hold finite floats, RGB in [0, 1]")
        return picture.detach().float().cpu()


def _signed(pixels: Tensor, pictures: Sequence[Any]) -> Tensor:
    """Pictures in [-1, 1]: tensors with a negative value are so already, everything else is in [0, 1]."""
    signed = all(isinstance(picture, Tensor) for picture in pictures) and float(pixels.min()) < 0
    low, high = float(pixels.min()), float(pixels.max())
    if high > 1 or low < (-1 if signed else 0):
        raise ValueError(f"image: tensors are RGB in [0, 1], or in [-1, 1]; got {low:.4g} to {high:.4g}")
    return pixels if signed else 2 * pixels - 1


def _mask_rows(request: Request, masks: Sequence[Any], size: Size) -> Tensor | None:
    """All masks, (1 or B, 1, H, W); None without any."""
    rows = [read_mask(mask, size, request.mask_blur, index) for index, mask in enumerate(masks)]
    return torch.stack(rows) if rows else None


def _cropped(request: Request, images: list[Any], masks: list[Any], size: Size) -> Pictures:
    """The parts of the pictures around their masks, enlarged to `size`."""
    crops = []
    for index in range(max(len(images), len(masks))):
        image = images[index % len(images)]
        own = (int(image.shape[-2]), int(image.shape[-1])) if isinstance(image, Tensor) else size_of(image)
        mask = read_mask(masks[index % len(masks)], own, request.mask_blur, index)
        pixels = _signed(_pixels(image, own, index), [image]) / 2 + 0.5
        crops.append(crop_of(pixels, mask, size, request.padding_mask_crop or 0))
    if len({crop.mask.shape for crop in crops}) > 1:
        raise ValueError("image: pictures of several sizes in one call with padding_mask_crop=: call once for each")
    pixels = torch.stack([crop.enlarged(crop.picture, size) for crop in crops])
    mask = torch.stack([crop.enlarged(crop.mask, size) for crop in crops])
    return Pictures(size, 2 * pixels - 1, None, mask, tuple(crops))
