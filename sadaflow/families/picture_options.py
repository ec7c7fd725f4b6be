"""The arguments of calls that start from a picture, or repaint a part of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from .argument import anything, argument, choice, count, flag, number_between, optional, text_or_texts

POSTERIORS: Final = ("mode", "sample")
"""What is taken of the autoencoder's posterior: its mode, or a sample drawn from the seed."""

STRENGTH: Final = 0.8
"""Strength of a call with a picture and no mask; with a mask it is 1. Both as published."""

INVERSIONS: Final = ("exact", "ode", "edit-friendly")
"""How the noise of a picture is found; see docs/inversion.md."""

IMAGE_GUIDANCE: Final = 1.5
"""Guidance by the picture that InstructPix2Pix was published with."""


@dataclass(frozen=True)
class PictureOptions:
    """Arguments of calls that start from a picture.

    Attributes:
        image: A picture for all samples, or a list with one for each: path, PIL image, array, tensor (3, H, W) or
            (B, 3, H, W) in [0, 1], or latents (C, h, w) or (B, C, h, w) in the network's scaling.
        strength: Fraction of the steps that are taken, those of the least noise; None is 0.8, and 1 with a mask or a
            source prompt.
        start_step: Index of the first step that is taken, in place of `strength`.
        mask: What is repainted, white on black: one for all samples, or a list with one for each, as `image`.
        mask_blur: Radius in pixels by which the mask is blurred.
        padding_mask_crop: Pixels around the mask to which the picture is cropped before it is repainted; None repaints
            the whole picture at once.
        paste: Whether pixels outside the mask are those of the picture itself, not what the autoencoder makes of them.
        posterior: "mode" or "sample"; see `POSTERIORS`.
        source_prompt: What the picture shows: for all samples, or a sequence with one for each. The noise that leads
            to it with this prompt is found, and sampling starts from there.
        inversion: How it is found, one of `INVERSIONS`; None is "edit-friendly" for solvers that draw noise, and
            "exact" for others.
        image_guidance: On InstructPix2Pix, scale of guidance by the picture.
        denoising_start: Fraction of the schedule at which the latents `image` arrive from another call.
        denoising_end: Fraction of the schedule at which sampling stops; its latents are the result.
    """

    image: Any = argument(
        None, anything, "Picture to start from: one for all, or one for each.", flag_type=list[str], metavar="FILE",
        per_sample=True,
    )  # fmt: skip
    strength: float | None = argument(
        None, optional(number_between(0, 1)), "Fraction of the steps that are taken, 0 to 1.",
        flag_type=float, shown_default=f"{STRENGTH:g}, and 1 with --mask or --source-prompt", per_line=True,
    )  # fmt: skip
    start_step: int | None = argument(
        None, optional(count(0)), "Index of the first step, in place of --strength.", flag_type=int
    )
    mask: Any = argument(
        None, anything, "What to repaint, white on black: one for all, or one for each.",
        flag_type=list[str], metavar="FILE", per_sample=True,
    )  # fmt: skip
    mask_blur: float = argument(
        0.0, number_between(0, 4096), "Radius in pixels by which the mask is blurred.", flag_type=float
    )
    padding_mask_crop: int | None = argument(
        None, optional(count(0)), "Repaint only around the mask, with so many pixels of margin.", flag_type=int
    )
    paste: bool = argument(False, flag, "Keep the picture's own pixels outside the mask.", flag_type=bool)
    posterior: str = argument(
        "mode", choice(POSTERIORS), "Of the encoded picture: mode, or a sample by the seed.",
        flag_type=str,
    )  # fmt: skip
    source_prompt: str | Sequence[str] | None = argument(
        None, text_or_texts, "What the picture shows: sampling starts from its noise.",
        flag_type=list[str], metavar="TEXT", per_sample=True,
    )  # fmt: skip
    inversion: str | None = argument(
        None, optional(choice(INVERSIONS)), f"How that noise is found: {', '.join(INVERSIONS)}.", flag_type=str,
        shown_default="edit-friendly for solvers that draw noise, else exact",
    )  # fmt: skip
    image_guidance: float | None = argument(
        None, optional(number_between(0, 1000)), "On InstructPix2Pix: guidance by the picture.", flag_type=float,
        shown_default=f"{IMAGE_GUIDANCE:g}",
    )  # fmt: skip
    denoising_start: float | None = argument(
        None, optional(number_between(0, 1)), "Fraction of the schedule at which the latents image= arrive."
    )
    denoising_end: float | None = argument(
        None, optional(number_between(0, 1)), "Fraction of the schedule at which sampling stops."
    )

    @property
    def starts_from_data(self) -> bool:
        """Whether a picture or a sound is given to start from."""
        return self.image is not None or getattr(self, "audio", None) is not None

    @property
    def effective_strength(self) -> float:
        """The strength, with its default filled in."""
        if self.strength is not None:
            return self.strength
        return STRENGTH if self.mask is None and self.source_prompt is None else 1.0


_NEED_IMAGE: Final = ("strength", "start_step", "mask", "denoising_start", "image_guidance")
_NEED_DATA: Final = ("strength", "start_step")
_NEED_MASK: Final = ("mask_blur", "padding_mask_crop", "paste")


def check_pictures(options: PictureOptions) -> None:
    """Check that the arguments fit each other.

    Raises:
        ValueError: If one needs another that is missing, or two exclude each other.
    """
    if options.image is None:
        for name in _NEED_IMAGE:
            if getattr(options, name) is not None and not (name in _NEED_DATA and options.starts_from_data):
                raise ValueError(f"{name}= needs a picture: image=")
        if options.posterior != "mode":
            raise ValueError(f"posterior={options.posterior!r} needs a picture: image=")
    if options.mask is None:
        for name in _NEED_MASK:
            if getattr(options, name) not in (None, 0, False):
                raise ValueError(f"{name}={getattr(options, name)!r} needs a mask: mask=")
    if options.source_prompt is None and options.inversion is not None:
        raise ValueError(f"inversion={options.inversion!r} needs a prompt of the picture: source_prompt=")
    if options.source_prompt is not None:
        for name in ("denoising_start", "denoising_end"):
            if getattr(options, name) is not None:
                raise ValueError(f"{name}= has no meaning with source_prompt=, which inverts the steps: leave it out")
    begins = [name for name in ("strength", "start_step", "denoising_start") if getattr(options, name) is not None]
    if len(begins) > 1:
        raise ValueError(f"{' and '.join(f'{name}=' for name in begins)} each say where sampling begins: give one")
    start, end = options.denoising_start, options.denoising_end
    if start == 1 or end == 0 or (start is not None and end is not None and start >= end):
        raise ValueError(f"denoising_start={start} and denoising_end={end} leave no step to take")


def picture_of(pictures: Any, index: int) -> Any:
    """The picture of sample `index`: an entry of a list or of a batch, or the single picture of all samples."""
    if isinstance(pictures, (list, tuple)):
        return pictures[index if len(pictures) > 1 else 0]
    batch = getattr(pictures, "ndim", 0) == 4 and len(pictures) > 1
    return pictures[index : index + 1] if batch else pictures
