"""Metrics of pictures and sounds: fidelity to a reference, distances of network features, and metrics by name."""

from .features import clip_score, frechet_distance, lpips
from .fidelity import psnr, spectrogram_pictures, spectrogram_psnr, spectrogram_ssim, ssim
from .registry import Metric, SampleMetric, SetMetric, find_metrics

__all__ = [
    "Metric",
    "SampleMetric",
    "SetMetric",
    "clip_score",
    "find_metrics",
    "frechet_distance",
    "lpips",
    "psnr",
    "spectrogram_pictures",
    "spectrogram_psnr",
    "spectrogram_ssim",
    "ssim",
]
