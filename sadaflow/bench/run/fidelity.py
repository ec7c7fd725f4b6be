"""Fidelity of samples to those of the plain run, as their records hold it."""

import math

from torch import Tensor

from ...metrics.fidelity import psnr, spectrogram_psnr, spectrogram_ssim, ssim
from ...metrics.video import is_sound, is_video, per_frame
from .lines import Record

Fidelity = tuple[float | str | None, float | None]
"""PSNR in dB, or "inf"; and SSIM. None for problems without pictures."""


def fidelity_of(made: Tensor, plain: Tensor) -> tuple[list[Fidelity], list[Record]]:
    """PSNR and SSIM of each sample, and further fields of its record: of a video, the values of the worst frame.

    PSNR and SSIM of a video are the means over its frames.
    """
    moving = is_video(plain)
    if moving:
        decibels, similarity = (per_frame(measure, made, plain) for measure in (psnr, ssim))
        worst = zip(decibels.amin(dim=1).tolist(), similarity.amin(dim=1).tolist(), strict=True)
        frames: list[Record] = [{"worst_psnr": _finite(low), "worst_ssim": similar} for low, similar in worst]
        decibels, similarity = decibels.mean(dim=1), similarity.mean(dim=1)
    else:
        sound, frames = is_sound(plain), [{}] * len(plain)
        decibels = (spectrogram_psnr if sound else psnr)(made, plain)
        similarity = (spectrogram_ssim if sound else ssim)(made, plain)
    return list(zip(map(_finite, decibels.tolist()), similarity.tolist(), strict=True)), frames


def _finite(decibels: float) -> float | str:
    """The number, or "inf", which JSON cannot hold as a number."""
    return decibels if math.isfinite(decibels) else "inf"
