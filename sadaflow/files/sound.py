"""Reads sounds to start from: WAV files, and samples with their rate."""

import math
import os
import struct
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_RATES = (1000, 768_000)
"""Lowest and highest sampling rate in Hz that is read."""

_FORMS = "give the path of a WAV file, or (samples, rate), as in audio=(tensor, 16000)"


def read_sound(value: Any, rate: int) -> Tensor:
    """Read a sound, mixed to one channel and resampled.

    Args:
        value: Path of a WAV file; or samples and their rate in Hz. Samples are an array or tensor (samples,) or
            (channels, samples) of floats, or of integers, whose range stands for [-1, 1].
        rate: Rate of the result in Hz.

    Returns:
        Samples (samples,), float32.

    Raises:
        ValueError: If it cannot be read, or holds NaN, infinity or nothing.
    """
    if isinstance(value, (str, os.PathLike)):
        samples, own = _read_file(os.fspath(value))
    elif isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[0], (np.ndarray, Tensor)):
        samples, own = _array(value[0]), value[1]
    else:
        raise ValueError(f"audio: a {type(value).__name__} is not a sound: {_FORMS}")
    if isinstance(own, bool) or not isinstance(own, (int, np.integer)) or not _RATES[0] <= own <= _RATES[1]:
        raise ValueError(f"audio: a sampling rate of {own!r} Hz is not a whole number from {_RATES[0]} to {_RATES[1]}")
    mono = samples if samples.ndim == 1 else samples.mean(axis=0)
    if mono.size == 0:
        raise ValueError("audio: the sound has no samples")
    if not np.isfinite(mono).all():
        raise ValueError("audio: the sound holds NaN or infinity")
    divisor = math.gcd(int(own), rate)
    if own != rate:
        from scipy.signal import resample_poly  # slow to import

        mono = resample_poly(mono, rate // divisor, int(own) // divisor)
    return torch.from_numpy(np.ascontiguousarray(mono, dtype=np.float32))


def _read_file(path: str) -> tuple[NDArray[np.float64], int]:
    if "://" in path:
        raise ValueError(f"audio: {path[:80]!r} is a URL: download it, and give the file")
    try:
        from scipy.io import wavfile  # slow to import

        rate, samples = wavfile.read(path)
    except (OSError, ValueError, EOFError, struct.error) as error:
        raise ValueError(f"audio: the WAV file {path!r} cannot be read: {error}") from error
    return _array(samples if samples.ndim == 1 else samples.T), rate


def _array(samples: Any) -> NDArray[np.float64]:
    """Samples (samples,) or (channels, samples) as floats."""
    array = samples.detach().cpu().numpy() if isinstance(samples, Tensor) else samples
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[0] > 64):
        raise ValueError(f"audio: samples of shape {array.shape} are neither (samples,) nor (channels, samples)")
    if array.dtype == np.uint8:  # WAV files of 8 bits are unsigned
        return (array.astype(np.float64) - 128) / 128
    if np.issubdtype(array.dtype, np.integer):
        return np.asarray(array / -float(np.iinfo(array.dtype).min), dtype=np.float64)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"audio: samples of {array.dtype} are neither floats nor integers")
    return np.asarray(array, dtype=np.float64)
