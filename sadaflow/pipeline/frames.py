"""The number of frames of a video."""

from torch import Tensor

from ..families import Family, VideoFamily


def read_frames(frames: int | None, family: Family) -> int | None:
    """Number of frames of a video, of which None is the checkpoint's own; None for checkpoints that make none.

    Raises:
        ValueError: If the number is not 1 more than a multiple of the frames of a latent frame.
    """
    if not isinstance(family, VideoFamily):
        return None
    number, unit = family.default_frames if frames is None else frames, family.frames_per_latent
    if (number - 1) % unit:
        below = number - (number - 1) % unit
        raise ValueError(
            f"num_frames={number} is not 1 more than a multiple of {unit}, the frames of a latent frame: use {below} "
            f"or {below + unit}"
        )
    return number


def noise_frames(noise: Tensor, frames: int | None, family: Family) -> int | None:
    """Number of frames that start noise decides; raises ValueError if the request gives another."""
    if not isinstance(family, VideoFamily):
        return None
    made: int = (noise.shape[2] - 1) * family.frames_per_latent + 1
    if frames not in (None, made):
        raise ValueError(f"num_frames={frames}, but noise= of {noise.shape[2]} latent frames makes {made} frames")
    return made
