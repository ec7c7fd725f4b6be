"""Metrics of pictures, applied to every frame of videos."""

from collections.abc import Callable

from torch import Tensor

Measure = Callable[[Tensor, Tensor], Tensor]
"""From pictures (N, 3, H, W) and their references to a value for each, (N,)."""


def is_video(images: Tensor) -> bool:
    """Whether samples are videos (B, frames, 3, H, W); pictures and spectrograms have an axis fewer."""
    return images.dim() == 5


def is_sound(images: Tensor) -> bool:
    """Whether samples are log-mel spectrograms (B, 1, frames, mels)."""
    return images.dim() == 4 and images.shape[1] == 1


def per_frame(measure: Measure, videos: Tensor, reference: Tensor) -> Tensor:
    """The value of a metric for every frame, (B, frames).

    Args:
        measure: A metric of pictures, such as `psnr` and `ssim`.
        videos: (B, frames, 3, H, W) in [0, 1].
        reference: The same shape and range.

    Raises:
        ValueError: If the shapes differ.
    """
    if videos.shape != reference.shape:
        raise ValueError(
            f"videos and reference must have one shape, got {tuple(videos.shape)} and {tuple(reference.shape)}"
        )
    values = measure(videos.flatten(0, 1), reference.flatten(0, 1))
    return values.unflatten(0, tuple(videos.shape[:2]))
