"""Random fields and colours that procedural pictures are made of.

Pictures are drawn at `SIDE` pixels a side and averaged down, which smooths their edges.
"""

import colorsys
import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Field = NDArray[np.float64]

SIDE = 64
"""Pixels along a side of the pictures before they are averaged down."""


def coordinates(random: Generator | None = None, tilt: float = math.pi) -> tuple[Field, Field]:
    """Horizontal and vertical coordinates (SIDE, SIDE) in [-1/2, 1/2).

    Args:
        random: Turns the axes by an angle from it; None leaves them.
        tilt: Largest angle, in radians.
    """
    line = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    x, y = np.meshgrid(line, line)
    if random is None:
        return x, y
    angle = random.uniform(-tilt, tilt)
    return math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x


def filtered_noise(random: Generator, gain: Field) -> Field:
    """Periodic Gaussian noise of mean 0 and variance 1.

    Args:
        random: Source of random numbers.
        gain: Gain (SIDE, SIDE) of each frequency of `frequencies`.
    """
    spectrum = np.fft.fft2(random.standard_normal((SIDE, SIDE))) * gain
    spectrum[0, 0] = 0
    field = np.fft.ifft2(spectrum).real
    return field / field.std()


def frequencies() -> Field:
    """Lengths (SIDE, SIDE) of the frequency vectors of `np.fft.fft2`, in waves per picture."""
    line = np.fft.fftfreq(SIDE, 1 / SIDE)
    return np.hypot(line[:, None], line)


def fractal_noise(random: Generator, exponent: float) -> Field:
    """Noise (SIDE, SIDE) whose amplitude falls with the frequency to the power of `exponent`."""
    return filtered_noise(random, np.maximum(frequencies(), 1.0) ** -exponent)


def banded_noise(random: Generator, waves: float, width: float = 0.2) -> Field:
    """Noise (SIDE, SIDE) around `waves` waves per picture, in a band of relative `width`."""
    return filtered_noise(random, np.exp(-0.5 * ((frequencies() / waves - 1) / width) ** 2))


def profile(random: Generator, roughness: float) -> Field:
    """A line (SIDE,) of fractal noise, of mean 0 and variance 1: the outline of a ridge."""
    waves = np.maximum(np.abs(np.fft.fftfreq(2 * SIDE, 1 / (2 * SIDE))), 1.0)
    line = np.fft.ifft(np.fft.fft(random.standard_normal(2 * SIDE)) * waves**-roughness).real[:SIDE]
    line = line - line.mean()
    return line / line.std()


def step_up(field: Field, sharpness: float = SIDE) -> Field:
    """A step from 0 to 1 where `field` becomes positive, 1 / sharpness wide."""
    return np.clip(field * sharpness + 0.5, 0, 1)


def varied(random: Generator, *colours: str) -> Field:
    """Variations (count, 3) in [0, 1] of colours.

    Args:
        random: Varies hue, saturation and brightness of each.
        *colours: Red, green and blue in hexadecimal, as "ffd76a".
    """
    hsv = np.array([colorsys.rgb_to_hsv(*(part / 255 for part in bytes.fromhex(colour))) for colour in colours])
    hsv += random.uniform(-1, 1, hsv.shape) * (0.03, 0.12, 0.1)
    hsv[:, 0] %= 1
    return np.array([colorsys.hsv_to_rgb(*colour) for colour in hsv.clip(0, 1)])


def jittered(random: Generator, colour: Field, count: int, amount: float = 0.12) -> Field:
    """Variations (count, 3) of a colour (3,) in brightness and tint."""
    change = amount * random.standard_normal((count, 1)) + 0.3 * amount * random.standard_normal((count, 3))
    return np.clip(colour + change, 0, 1)


def mix(weight: Field, below: Field, above: Field) -> Field:
    """Pictures or colours (..., 3), from `below` at weight 0 to `above` at weight 1."""
    return below + weight[..., None] * (above - below)


def gradient(field: Field, stops: Field) -> Field:
    """Colours (..., 3) on the line through `stops` (count, 3), for a field in [0, 1]."""
    where = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(field, where, channel) for channel in stops.T], axis=-1)
