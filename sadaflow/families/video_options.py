"""The arguments of calls that make video."""

from dataclasses import dataclass

from .argument import argument, count, number, optional


@dataclass(frozen=True)
class VideoOptions:
    """Arguments of checkpoints that make video.

    Attributes:
        num_frames: Number of frames; None is the checkpoint's own.
        late_guidance: On Wan 2.2 with two transformers, guidance of the second, at less noise; None is that of the
            first.
    """

    num_frames: int | None = argument(
        None, optional(count(1)), "Frames of a video.", flag_type=int, metavar="N", shown_default="the checkpoint's"
    )
    late_guidance: float | None = argument(
        None, optional(number), "On Wan 2.2: guidance of the second transformer.", flag_type=float,
        shown_default="that of the first",
    )  # fmt: skip
