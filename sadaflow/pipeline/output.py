"""What a call returns, and how it is made from the sampled latents."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor

from ..display import html
from ..families import AudioFamily, Family, VideoFamily
from ..files.images import to_image, to_pil
from ..files.png import encode_png
from ..sampling.inversion.results import InversionStats
from ..sampling.results import Sampled, Stats
from ..sampling.trace import Trace

_MOST_SHOWN: Final = 8
_WIDTH: Final = 160  # pixels of a thumbnail


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
        inversion: Cost and accuracy of finding the noise of the picture, if the call had a source prompt; `stats` does
            not include it.
    """

    images: Any
    latents: Tensor
    stats: Stats
    audio: Tensor | None = None
    sample_rate: int | None = None
    trace: Trace | None = None
    fps: int | None = None
    inversion: InversionStats | None = None

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

    def show(self) -> None:
        """Shows the pictures, or plays the sounds: in the notebook, or each picture in the system's viewer.

        Raises:
            ValueError: If there is nothing to show ("latent" output), or if sounds are to be played outside a notebook.
        """
        if self.images is None:
            raise ValueError('there are no pictures: the call had output="latent"')
        if _in_notebook():
            from IPython.display import display

            display(self)
            return
        if self.audio is not None:
            raise ValueError("sounds can be played in a notebook only; write out.audio to a WAV file")
        for image in self._pictures():
            image.show()

    def __repr__(self) -> str:
        kind = "pictures" if self.fps is None else "videos"
        made = f"no {kind}" if self.images is None else f"{len(self.images)} {kind}"
        if self.audio is not None:
            made = f"{len(self.audio)} sounds of {self.audio.shape[1] / (self.sample_rate or 1):.3g} s"
        return f"Output({made}, latents={tuple(self.latents.shape)}, {self.stats})"

    def _repr_html_(self) -> str:
        shown = self._shown()
        return html.panel(
            "Output", "<div>", *shown, html.more(len(self.latents), len(shown)) if shown else "", "</div>",
            self.stats._repr_html_(),
        )  # fmt: skip

    def _pictures(self) -> list[Any]:
        """The pictures as PIL images; of each video its first, middle and last frame."""
        if self.fps is not None:
            return [
                to_image(video[at]) if isinstance(video, Tensor) else video[at]
                for video in self.images
                for at in sorted({0, len(video) // 2, len(video) - 1})
            ]
        return [to_image(image) for image in self.images] if isinstance(self.images, Tensor) else list(self.images)

    def _shown(self) -> list[str]:
        """HTML of the first pictures or sounds."""
        if self.audio is not None and self.sample_rate is not None:
            from ..files.wav import encode_wav  # imports scipy.io, which pictures do without

            return [html.sound(encode_wav(sound, self.sample_rate)) for sound in self.audio[:_MOST_SHOWN]]
        if self.images is None:
            return []
        return [
            html.picture(encode_png(_thumbnail(image)), f"sample {index}", _WIDTH)
            for index, image in enumerate(self._pictures()[:_MOST_SHOWN])
        ]


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


def _thumbnail(image: Any) -> Any:
    """A PIL image no larger than twice the width at which it is shown."""
    small = image.copy()
    small.thumbnail((2 * _WIDTH, 2 * _WIDTH))
    return small


def _in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return type(get_ipython()).__name__ == "ZMQInteractiveShell"
