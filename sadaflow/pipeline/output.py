"""What a call returns, and how it is made from the sampled latents."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..families import AudioFamily, Family, VideoFamily
from ..files.images import to_pil
from ..sampling.results import Sampled, Stats
from ..sampling.trace import Trace


@dataclass(frozen=True)
class Output:
    """The result of a call.

    Attributes:
        images: A list of PIL images for "pil", a tensor (B, 3, H, W) in [0, 1] for "tensor", None for "latent". Of a
            checkpoint that makes sound: log-mel spectrograms (B, 1, frames, mels), None for "latent". Of one that makes
            video: see `videos`.
        latents: Latents (B, C, h, w), of videos (B, C, T, h, w), at the end of the grid, in the backbone's scaling.
        stats: Cost of the sampling run.
        audio: Sound (B, samples) for "audio", float32 on the CPU; else None.
        sample_rate: Samples of `audio` per second.
        trace: The trajectory, if the call asked for it.
        fps: Frames of the videos per second; None if there are none.
    """

    images: Any
    latents: Tensor
    stats: Stats
    audio: Tensor | None = None
    sample_rate: int | None = None
    trace: Trace | None = None
    fps: int | None = None

    @property
    def videos(self) -> Any:
        """Videos: for "pil" a list of frames (PIL images) for each, for "tensor" (B, frames, 3, H, W) in [0, 1].

        None if the checkpoint makes none, or for "latent".
        """
        return None if self.fps is None else self.images

    @property
    def video(self) -> Any:
        """The first of `videos`; None if there is none."""
        return None if self.videos is None else self.videos[0]


def decode_output(
    family: Family,
    sampled: Sampled,
    output: str,
    seconds: float | None,
    finish: Callable[[Tensor], Tensor] | None = None,
) -> Output:
    """Decode sampled latents.

    Args:
        family: The networks.
        sampled: Latents (B, C, h, w) or (B, C, T, h, w) and the cost of sampling them.
        output: "pil", "tensor", "audio" or "latent"; see `Output`.
        seconds: Length that the sound is cut to; None keeps all of it.
        finish: What is done to the decoded pictures (B, 3, H, W) in [0, 1]; None is nothing.
    """
    images: Any = None if output == "latent" else family.decode(sampled.x)
    if images is not None and finish is not None:
        images = finish(images)
    if output == "audio" and isinstance(family, AudioFamily):
        rate = family.sample_rate
        if seconds is None:
            seconds = images.shape[2] * family.frame_seconds
        audio = family.waveform(images)[:, : int(seconds * rate)]
        return Output(images, sampled.x, sampled.stats, audio, rate, trace=sampled.trace)
    fps = family.frames_per_second if isinstance(family, VideoFamily) else None
    if output == "pil":
        images = to_pil(images) if fps is None else [to_pil(frames) for frames in images]
    return Output(images, sampled.x, sampled.stats, trace=sampled.trace, fps=fps)
