"""Further interface of families that make sound or video."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class AudioFamily(Protocol):
    """Further interface of families that generate sound; their `decode` returns log-mel spectrograms.

    Attributes:
        sample_rate: Sampling rate in Hz.
        frame_seconds: Duration of a spectrogram frame.
    """

    sample_rate: int
    frame_seconds: float

    def frames(self, seconds: float) -> int:
        """Number of spectrogram frames (the height) for a duration.

        Raises:
            ValueError: If the duration is not possible.
        """
        ...

    def waveform(self, spectrograms: Tensor) -> Tensor:
        """Convert log-mel spectrograms (B, 1, frames, mels) to waveforms (B, samples), float32 on the CPU."""
        ...


@runtime_checkable
class MelFamily(AudioFamily, Protocol):
    """Further interface of families of sound that know the frequencies of their spectrograms.

    Attributes:
        band_frequencies: The frequency in Hz in the middle of each mel band, from the lowest band on.
    """

    band_frequencies: tuple[float, ...]


@runtime_checkable
class VideoFamily(Protocol):
    """Further interface of families that generate video.

    Latents are (B, C, T, h, w), and `decode` returns videos (B, frames, 3, H, W) in [0, 1], float32.

    Attributes:
        frames_per_second: Frames per second that the checkpoint was trained at.
        default_frames: Number of frames that it was trained at.
        frames_per_latent: Frames of a latent frame; the first latent frame is a single one.
    """

    frames_per_second: int
    default_frames: int
    frames_per_latent: int


@runtime_checkable
class FirstFrameFamily(VideoFamily, Protocol):
    """Further interface of families whose videos begin with a picture.

    Attributes:
        replaces_first: Whether the latents of the picture take the place of the first latent frame, as the argument
            "first" of the backbone; otherwise they are read beside the latents, with a mask.
        seen_side: Height and width of the pictures that `see` takes; None if the checkpoint has no image encoder.
    """

    replaces_first: bool
    seen_side: int | None

    def see(self, pictures: Tensor) -> Mapping[str, Tensor]:
        """Further arguments of the backbone, for pictures (B, 3, seen_side, seen_side) in [0, 1]."""
        ...
