"""What a call returns, and how it is made from the sampled latents."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..families import AudioFamily, Family
from ..files.images import to_pil
from ..sampling.inversion.results import InversionStats
from ..sampling.results import Sampled, Stats
from ..sampling.trace import Trace


@dataclass(frozen=True)
class Output:
    """The result of a call.

    Attributes:
        images: A list of PIL images for "pil", a tensor (B, 3, H, W) in [0, 1] for "tensor", None for "latent". Of a
            checkpoint that makes sound: log-mel spectrograms (B, 1, frames, mels), None for "latent".
        latents: Latents (B, C, h, w) at the end of the grid, in the backbone's scaling.
        stats: Cost of the sampling run.
        audio: Sound (B, samples) for "audio", float32 on the CPU; else None.
        sample_rate: Samples of `audio` per second.
        trace: The trajectory, if the call asked for it.
        inversion: Cost and accuracy of finding the noise of the picture, if the call had a source prompt; `stats` does
            not include it.
    """

    images: Any
    latents: Tensor
    stats: Stats
    audio: Tensor | None = None
    sample_rate: int | None = None
    trace: Trace | None = None
    inversion: InversionStats | None = None


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
        sampled: Latents (B, C, h, w) and the cost of sampling them.
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
    return Output(to_pil(images) if output == "pil" else images, sampled.x, sampled.stats, trace=sampled.trace)
