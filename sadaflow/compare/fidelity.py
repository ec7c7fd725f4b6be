"""Fidelity of pictures, videos and sounds to those of the plain run."""

from torch import Tensor

from ..metrics.fidelity import psnr, spectrogram_psnr, ssim
from ..metrics.video import is_sound, is_video, per_frame


def fidelity_fields(images: Tensor, reference: Tensor) -> dict[str, tuple[float, ...]]:
    """The fields of a `Row` that compare its images with those of the plain run."""
    if is_sound(images):
        return {"psnr": tuple(spectrogram_psnr(images, reference).tolist()), "ssim": ()}
    if not is_video(images):
        return {"psnr": tuple(psnr(images, reference).tolist()), "ssim": tuple(ssim(images, reference).tolist())}
    decibels, similar = (per_frame(measure, images, reference) for measure in (psnr, ssim))
    means = {"psnr": tuple(decibels.mean(dim=1).tolist()), "ssim": tuple(similar.mean(dim=1).tolist())}
    return {**means, "worst_frame": tuple(decibels.amin(dim=1).tolist())}
