"""Log-mel spectrograms of sound, as AudioLDM and MusicLDM were trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor

_FLOOR = 1e-5
"""Smallest magnitude before the logarithm."""

_PEAK = 0.5
"""Largest value of a waveform in training."""

_BREAK, _PER_HZ, _LOG_STEP = 1000.0, 3 / 200, 0.06875177742094912
"""Slaney's mel scale: linear to 1000 Hz, 27 bands for a factor of 6.4 above; log(6.4) / 27."""


@dataclass(frozen=True)
class MelSettings:
    """Settings of a log-mel spectrogram.

    Attributes:
        rate: Sampling rate in Hz.
        hop: Samples from one frame to the next.
        bands: Number of mel bands.
        window: Samples of a frame, and of its Fourier transform.
        highest: Frequency in Hz at which the last band ends.
    """

    rate: int
    hop: int
    bands: int
    window: int = 1024
    highest: float = 8000.0


def log_mel(waveform: Tensor, settings: MelSettings) -> Tensor:
    """The log-mel spectrogram of a waveform.

    The waveform is centred and scaled to a peak of one half. Frames are centred on their samples, with the edges
    mirrored, and windowed by Hann's window; magnitudes are collected into bands of equal area on Slaney's mel scale.

    Source: Liu et al. 2023 (AudioLDM), arXiv 2301.12503, section 4 and its published preprocessing: 16 kHz, windows of
    1024, hop 160, 64 bands from 0 to 8000 Hz.

    Args:
        waveform: (samples,), at `settings.rate`, more than half a window long.
        settings: The settings.

    Returns:
        Natural logarithms of the bands, (samples // hop, bands), float32.
    """
    centred = (waveform - waveform.mean()).float()
    scaled = _PEAK * centred / (centred.abs().max() + 1e-8)
    window = torch.hann_window(settings.window, device=scaled.device)
    spectrum = torch.stft(
        scaled, settings.window, settings.hop, window=window, center=True, pad_mode="reflect", return_complex=True
    )
    bands = mel_bands(settings).to(scaled) @ spectrum.abs()
    return bands.clamp(min=_FLOOR).log().T[: len(waveform) // settings.hop]


def mel_bands(settings: MelSettings) -> Tensor:
    """Weights (bands, window / 2 + 1) of the frequencies in each band: triangles of equal area on Slaney's scale."""
    edges = _edges(settings)
    frequencies = torch.linspace(0, settings.rate / 2, settings.window // 2 + 1, dtype=torch.float64)
    low, middle, high = (edges[start : start + settings.bands, None] for start in range(3))
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)


def band_frequencies(settings: MelSettings) -> tuple[float, ...]:
    """The frequency in Hz in the middle of each band, from the lowest band on."""
    return tuple(_edges(settings)[1:-1].tolist())


def _edges(settings: MelSettings) -> Tensor:
    """Ends and middles of the bands in Hz, (bands + 2,), float64: a band begins in the middle of the one before."""
    top = _to_mel(torch.tensor(min(settings.highest, settings.rate / 2), dtype=torch.float64))
    return _to_hz(torch.linspace(0, float(top), settings.bands + 2, dtype=torch.float64))


def _to_mel(hz: Tensor) -> Tensor:
    return torch.where(hz < _BREAK, hz * _PER_HZ, _BREAK * _PER_HZ + (hz.clamp(min=_BREAK) / _BREAK).log() / _LOG_STEP)


def _to_hz(mel: Tensor) -> Tensor:
    knee = _BREAK * _PER_HZ
    return torch.where(mel < knee, mel / _PER_HZ, _BREAK * (_LOG_STEP * (mel - knee)).exp())
