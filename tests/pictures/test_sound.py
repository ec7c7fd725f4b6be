"""Sounds to start from: the spectrogram against transformers, MusicLDM, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.io import wavfile
from transformers.audio_utils import hertz_to_mel, mel_filter_bank, mel_to_hertz, spectrogram, window_function

from sadaflow import Pipeline
from sadaflow.compare.sound_figure import mark_bands
from sadaflow.families.mel import MelSettings, band_frequencies, log_mel, mel_bands
from sadaflow.files.sound import read_sound
from support.checkpoints import musicldm

SETTINGS = MelSettings(16000, 160, 64)


def chirp(samples: int = 8000, rate: int = 16000) -> np.ndarray:
    t = np.arange(samples) / rate
    hiss = 0.01 * np.random.default_rng(0).normal(size=samples)
    return np.asarray(0.3 * np.sin(2 * np.pi * (200 * t + 900 * t**2)) + hiss + 0.05)


def test_mel_spectrogram() -> None:
    filters = mel_filter_bank(513, 64, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    torch.testing.assert_close(mel_bands(SETTINGS).T, torch.from_numpy(filters), rtol=1e-9, atol=1e-12)
    wave = chirp()
    centred = wave - wave.mean()
    theirs = spectrogram(
        0.5 * centred / np.abs(centred).max(), window_function(1024, "hann"), 1024, 160, power=1.0, center=True,
        pad_mode="reflect", mel_filters=filters, mel_floor=1e-5, log_mel="log",
    )  # fmt: skip
    ours = log_mel(torch.from_numpy(wave), SETTINGS)
    assert ours.shape == (50, 64) and ours.dtype == torch.float32
    torch.testing.assert_close(ours, torch.from_numpy(theirs.T[:50]).float(), rtol=1e-4, atol=1e-4)


def test_the_axis_of_a_spectrogram_is_in_hertz() -> None:
    """Ticks lie where transformers' mel scale has their frequencies, bands from i to i + 1."""
    top = hertz_to_mel(8000.0, "slaney")
    middles = mel_to_hertz(np.linspace(0, top, 66)[1:-1], "slaney")
    np.testing.assert_allclose(band_frequencies(SETTINGS), middles, rtol=1e-9)
    axes = Figure().subplots()
    mark_bands(axes, band_frequencies(SETTINGS))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["250", "500", "1000", "2000", "4000"]
    expected = [65 * hertz_to_mel(hz, "slaney") / top - 0.5 for hz in (250.0, 500.0, 1000.0, 2000.0, 4000.0)]
    np.testing.assert_allclose(axes.get_yticks(), expected, atol=0.02)
    assert "Hz" in axes.get_ylabel()
    mark_bands(axes, ())
    assert axes.get_ylabel() == "mel band"


def test_sounds_of_every_form(tmp_path: Path) -> None:
    wave = chirp().astype(np.float32)
    stereo = np.stack([wave, wave])
    wavfile.write(tmp_path / "f.wav", 16000, wave)
    wavfile.write(tmp_path / "s.wav", 16000, (stereo.T * 32768).round().astype(np.int16))
    wavfile.write(tmp_path / "b.wav", 16000, (wave * 128 + 128).round().astype(np.uint8))
    for value, near in (
        ((wave, 16000), 1e-6), ((torch.from_numpy(wave), 16000), 1e-6), ((stereo, 16000), 1e-6),
        (tmp_path / "f.wav", 1e-6), (str(tmp_path / "s.wav"), 1e-4), (tmp_path / "b.wav", 1e-2),
    ):  # fmt: skip
        np.testing.assert_allclose(read_sound(value, 16000).numpy(), wave, rtol=0, atol=near)
    fast = np.sin(2 * np.pi * 440 * np.arange(22050) / 44100).astype(np.float32)
    slow = np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)
    resampled = read_sound((fast, 44100), 16000).numpy()
    assert len(resampled) == 8000
    np.testing.assert_allclose(resampled[200:-200], slow[200:-200], atol=2e-3)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("none.wav", "the WAV file 'none.wav' cannot be read"),
        ("https://example.org/a.wav", "is a URL: download it"),
        (np.zeros(8), r"a ndarray is not a sound: give the path of a WAV file, or \(samples, rate\)"),
        ((np.zeros(8), 0), "a sampling rate of 0 Hz is not a whole number from 1000"),
        ((np.zeros(8), 44100.5), "a sampling rate of 44100.5 Hz"),
        ((np.zeros(0), 16000), "the sound has no samples"),
        ((np.full(8, np.nan), 16000), "the sound holds NaN or infinity"),
        ((np.zeros((2, 2, 2)), 16000), r"samples of shape \(2, 2, 2\) are neither"),
    ],
)
def test_what_is_not_a_sound(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"audio: .*{words}"):
        read_sound(value, 16000)


def test_musicldm_starts_from_a_sound(tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(musicldm(tmp_path / "musicldm"))
    rate = pipe.family.sample_rate
    sound = (chirp(6000, rate), rate)
    out = pipe(["techno", "piano"], audio=sound, strength=0.5, steps=4, seed=[1, 2])
    factor, hop = pipe.vae.config.downscale, round(pipe.family.frame_seconds * rate)
    frames = 6000 // hop // factor * factor
    assert out.images.shape[2] == frames and out.audio.shape == (2, frames * hop) and out.stats.nfe == [2.0, 2.0]
    mel = log_mel(torch.from_numpy(sound[0]).float(), MelSettings(rate, hop, pipe.family.mels))[:frames]
    latents = pipe.vae.encode(mel[None, None])[0] * pipe.vae.config.scaling_factor
    seen: list[torch.Tensor] = []
    pipe("techno", audio=sound, strength=0.25, steps=4, solver="euler", observer=lambda step: seen.append(step.x))
    point = pipe.solver("euler", 4).grid.points[3]
    noise = torch.randn((1, *latents.shape[1:]), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen[0], point.alpha * latents + point.sigma * noise, rtol=1e-4, atol=1e-4)
    for arguments, words in (
        ({"seconds": 1.0}, "seconds= and audio= both give the length"),
        ({"strength": 0.0}, "strength=0 changes nothing of the sound"),
        ({"audio": (np.zeros(500), rate)}, "is shorter than"),
        ({"image": np.zeros((8, 8))}, "this checkpoint makes sound: give audio="),
    ):
        with pytest.raises(ValueError, match=words):
            pipe("a", **{"audio": sound, "steps": 2, **arguments})
    with pytest.raises(ValueError, match="audio= starts from a sound, and this checkpoint makes pictures"):
        Pipeline.from_pretrained()("a", audio=sound, steps=2)
