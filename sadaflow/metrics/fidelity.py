"""Fidelity of pictures and of spectrograms to a reference: PSNR and SSIM, per sample, in float64."""

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d

WINDOW = 11  # pixels, SSIM's Gaussian window
WINDOW_SIGMA = 1.5  # pixels


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Computes the peak signal-to-noise ratio: -10 log10(mean squared difference over C, H, W), with peak 1.

    Args:
        images: (B, C, H, W) in [0, 1].
        reference: The same shape and range.

    Returns:
        (B,) in dB, float64; infinite where images are equal.

    Raises:
        ValueError: If shapes differ or values are outside [0, 1].
    """
    images, reference = _checked(images, reference)
    return -10 * torch.log10((images - reference).square().mean(dim=(1, 2, 3)))


def spectrogram_psnr(spectrograms: Tensor, reference: Tensor) -> Tensor:
    """Computes the PSNR of log-mel spectrograms. The peak is the largest minus the smallest value of the reference.

    Args:
        spectrograms: (B, 1, frames, mels), log amplitude.
        reference: The same shape.

    Returns:
        (B,) in dB, float64; infinite where spectrograms are equal.

    Raises:
        ValueError: If shapes differ.
    """
    _check_spectrograms(spectrograms, reference)
    error = (spectrograms.double() - reference.double()).square().mean(dim=(1, 2, 3))
    span = reference.double().amax(dim=(1, 2, 3)) - reference.double().amin(dim=(1, 2, 3))
    return torch.where(error == 0, math.inf, 20 * torch.log10(span) - 10 * torch.log10(error))


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Computes the structural similarity, averaged over channels and over the pixels whose window fits.

    Window: 11x11 Gaussian with sigma 1.5 pixels and weights that sum to 1. Population (not sample) covariance,
    K1 = 0.01, K2 = 0.03, dynamic range 1.

    Args:
        images: (B, C, H, W) in [0, 1].
        reference: The same shape and range.

    Returns:
        (B,), float64; 1 where images are equal.

    Raises:
        ValueError: If shapes differ, images are smaller than the window, or values are outside [0, 1].

    Source:
        Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity", eq. 13.
    """
    return _ssim(*_checked(images, reference))


def spectrogram_ssim(spectrograms: Tensor, reference: Tensor) -> Tensor:
    """Computes the SSIM of log-mel spectrograms, scaled so that the reference goes from 0 to 1.

    Args:
        spectrograms: (B, 1, frames, mels), log amplitude.
        reference: The same shape.

    Returns:
        (B,), float64.

    Raises:
        ValueError: If shapes differ, spectrograms are smaller than the window, or a reference is constant.
    """
    return _ssim(*_scaled(spectrograms, reference))


def spectrogram_pictures(spectrograms: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Converts spectrograms to grey pictures, for metrics whose networks need pictures.

    Args:
        spectrograms: (B, 1, frames, mels), log amplitude.
        reference: The same shape.

    Returns:
        Both as (B, 3, frames, mels) in [0, 1], float32: scaled as for `spectrogram_ssim`, then clamped.

    Raises:
        ValueError: If shapes differ or a reference is constant.
    """
    scaled = _scaled(spectrograms, reference)
    first, second = (values.clamp(0, 1).float().expand(-1, 3, -1, -1).contiguous() for values in scaled)
    return first, second


def _scaled(spectrograms: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    _check_spectrograms(spectrograms, reference)
    low, high = (bound(reference.double(), dim=(1, 2, 3), keepdim=True) for bound in (torch.amin, torch.amax))
    if not bool((high > low).all()):
        raise ValueError("a reference spectrogram has the same value everywhere, so it cannot be scaled to [0, 1]")
    return (spectrograms.double() - low) / (high - low), (reference.double() - low) / (high - low)


def _check_spectrograms(spectrograms: Tensor, reference: Tensor) -> None:
    if spectrograms.shape != reference.shape or reference.ndim != 4:
        raise ValueError(
            "spectrograms and reference must both be (B, 1, frames, mels), got "
            f"{tuple(spectrograms.shape)} and {tuple(reference.shape)}"
        )


def _ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Computes the SSIM of (B, C, H, W) in float64, with dynamic range 1."""
    if min(images.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels, got {tuple(images.shape[-2:])}")
    mean_x, mean_y = _windowed(images), _windowed(reference)
    var_x = _windowed(images * images) - mean_x * mean_x
    var_y = _windowed(reference * reference) - mean_y * mean_y
    cov = _windowed(images * reference) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _checked(images: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    if images.shape != reference.shape or images.ndim != 4:
        raise ValueError(
            f"images and reference must both be (B, C, H, W), got {tuple(images.shape)} and {tuple(reference.shape)}"
        )
    for name, values in (("images", images), ("reference", reference)):
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # also true for NaN
            raise ValueError(f"{name} must lie in [0, 1], got values from {low:g} to {high:g}")
    return images.double(), reference.double()


def _windowed(images: Tensor) -> Tensor:
    """Averages (B, C, H, W) with the Gaussian window, at the positions where it fits."""
    offsets = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - WINDOW // 2
    window = torch.exp(-0.5 * (offsets / WINDOW_SIGMA) ** 2)
    window = window / window.sum()
    planes = images.flatten(0, 1).unsqueeze(1)
    planes = conv2d(conv2d(planes, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    return planes.reshape(*images.shape[:2], *planes.shape[-2:])
