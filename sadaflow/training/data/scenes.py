"""Draws procedural pictures in twelve classes, as many as are asked for.

The class decides what is drawn and the colours, random numbers decide the rest. Pictures of seeds that were not used in
training are held-out data of the same distribution.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from .fields import (
    SIDE,
    Field,
    banded_noise,
    coordinates,
    fractal_noise,
    gradient,
    jittered,
    mix,
    profile,
    step_up,
    varied,
)

SIZE = 32
"""Pixels along a side of a picture."""


def bricks(random: Generator) -> Field:
    """A wall of bricks with mortar, each of its own shade."""
    x, y = coordinates(random, 0.25)
    stone, mortar = varied(random, "b4553a", "d6cfc2")
    rows = random.uniform(3, 6)
    aspect = random.uniform(1.6, 2.6)
    row = np.floor(y * rows + 50)
    column = x * rows / aspect + 0.5 * (row % 2) + random.random() + 50
    inside = np.minimum(0.5 - np.abs(column % 1 - 0.5), (0.5 - np.abs((y * rows + 50) % 1 - 0.5)) / aspect)
    shades = jittered(random, stone, 997)[(row * 31 + np.floor(column) * 17).astype(int) % 997]
    shades = shades * (1 + 0.07 * fractal_noise(random, 0.8)[..., None])
    return mix(step_up(inside - random.uniform(0.03, 0.07), 12), mortar, shades)


def bubbles(random: Generator) -> Field:
    """Shaded balls in front of each other."""
    x, y = coordinates()
    low, high = varied(random, "10243f", "3c7fb0")
    picture = mix(y + 0.5, low, high)
    tints = varied(random, "e8d36a", "e06b6b", "7fd0c0", "f2f2f2")
    for _ in range(random.integers(3, 10)):
        radius = random.uniform(0.1, 0.3)
        u, v = ((axis - random.uniform(-0.5, 0.5)) / radius for axis in (x, y))
        depth = np.sqrt(np.maximum(1 - u**2 - v**2, 0))
        light = np.clip(0.35 + 0.75 * (0.6 * depth - 0.5 * u - 0.6 * v), 0, 1.1)
        glint = np.exp(-30 * ((u + 0.4) ** 2 + (v + 0.45) ** 2))
        ball = mix(glint, tints[random.integers(4)] * light[..., None], np.ones(3))
        picture = mix(step_up(1 - np.hypot(u, v), SIDE * radius), picture, ball)
    return picture


def cells(random: Generator) -> Field:
    """Cells around random points (Worley 1996), with walls."""
    x, y = coordinates()
    count = int(random.integers(6, 22))
    centres = random.uniform(-0.6, 0.6, (count, 2))
    distances = np.hypot(x[..., None] - centres[:, 0], y[..., None] - centres[:, 1])
    nearest = distances.argmin(-1)
    first, second = np.partition(distances, 1, axis=-1)[..., :2].transpose(2, 0, 1)
    inner, wall = varied(random, "7fae5a", "2c3a1e")
    filled = jittered(random, inner, count, 0.15)[nearest] * (1.1 - 1.2 * first * math.sqrt(count) / 2)[..., None]
    return mix(step_up(second - first - random.uniform(0.02, 0.05), 30), wall, filled)


def clouds(random: Generator) -> Field:
    """A sky with clouds."""
    _, y = coordinates()
    sky = mix(y + 0.5, *varied(random, "2f6fc4", "9cc9ee"))
    field = fractal_noise(random, random.uniform(1.5, 2.0))
    cover = np.clip(0.9 * field + random.uniform(-0.6, 0.6), 0, 1) ** 0.8
    lit = np.clip(0.85 + 0.5 * (field - np.roll(field, (-2, -2), (0, 1))), 0.45, 1)
    return mix(cover, sky, lit[..., None] * np.array([1.0, 1.0, 0.98]))


def leaves(random: Generator) -> Field:
    """Overlapping ellipses of all sizes with a vein each (dead leaves, Lee et al. 2001)."""
    ground, *tints = varied(random, "2a2016", "c8501e", "d9a226", "7c8a2e")
    picture = np.broadcast_to(ground, (SIDE, SIDE, 3))
    for _ in range(random.integers(16, 32)):
        x, y = coordinates(random)
        radius = 0.1 / random.uniform(0.25, 1)
        u, v = (x - random.uniform(-0.7, 0.7)) / radius, (y - random.uniform(-0.7, 0.7)) / (0.45 * radius)
        tint = jittered(random, tints[random.integers(3)], 1)[0]
        leaf = tint * (0.75 + 0.3 * np.tanh(6 * v) - 0.15 * np.abs(u))[..., None]
        picture = mix(step_up(1 - np.hypot(u, v), SIDE * 0.4 * radius), picture, leaf)
    return picture


def marble(random: Generator) -> Field:
    """Veins: a wave bent by noise."""
    x, _ = coordinates(random)
    bend = random.uniform(0.06, 0.18) * fractal_noise(random, random.uniform(1.4, 1.9))
    wave = 0.5 + 0.5 * np.sin(2 * math.pi * random.uniform(1, 3) * (x + bend) + random.uniform(0, 6.3))
    return gradient(wave ** random.uniform(0.6, 2.5), varied(random, "f2efe8", "a9a39a", "3f4a52"))


def maze(random: Generator) -> Field:
    """Arcs that each tile turns one of two ways (Truchet tiles, Smith 1987)."""
    x, y = coordinates(random, 0.8)
    tiles = random.uniform(2, 4.5)
    u, v = (axis * tiles + 50 + random.random() for axis in (x, y))
    turned = random.random((16, 16))[np.floor(v).astype(int) % 16, np.floor(u).astype(int) % 16] < 0.5
    u, v = u % 1, v % 1
    u = np.where(turned, 1 - u, u)
    distance = np.minimum(np.abs(np.hypot(u, v) - 0.5), np.abs(np.hypot(1 - u, 1 - v) - 0.5))
    below, above = varied(random, "f2c230", "1c1c24")
    return mix(step_up(random.uniform(0.1, 0.2) - distance, SIDE / tiles), below, above)


def plaid(random: Generator) -> Field:
    """Woven bands of thread: a tartan."""
    x, y = coordinates(random, 0.15 if random.random() < 0.5 else 0.8)
    threads = int(random.integers(5, 12))
    sett = random.integers(0, 4, threads)
    tints = varied(random, "b3202c", "14432a", "f0e6c8", "1d2440")
    scale = threads / random.uniform(0.4, 0.9)
    across, along = (tints[sett[np.floor(axis * scale + 100).astype(int) % threads]] for axis in (x, y))
    twill = 0.5 + 0.5 * np.sin(2 * math.pi * (x + y) * random.uniform(5, 8))
    return mix(0.3 + 0.4 * twill, across, along)


def ridges(random: Generator) -> Field:
    """Ridges behind each other in haze, and a sun or moon."""
    x, y = coordinates()
    haze, sky, land = varied(random, "f0b27a", "5a6fae", "4a3c66")
    picture = mix(0.5 - y, haze, sky)
    disc = step_up(random.uniform(0.04, 0.12) - np.hypot(x - random.uniform(-0.4, 0.4), y + random.uniform(0, 0.4)))
    picture = mix(disc, picture, np.clip(haze + random.uniform(0.3, 0.6), 0, 1))
    layers = int(random.integers(2, 6))
    for layer in range(1, layers + 1):
        near = layer / layers
        height = -0.3 + 0.7 * near + random.uniform(0.03, 0.09) * profile(random, random.uniform(0.9, 1.6))
        shade = mix(np.asarray(near), haze, 0.45 * land)
        picture = mix(step_up(y - height), picture, shade)
    return picture


def ripples(random: Generator) -> Field:
    """Circular waves from several centres."""
    x, y = coordinates()
    total = np.zeros((SIDE, SIDE))
    count = int(random.integers(1, 4))
    for _ in range(count):
        distance = np.hypot(x - random.uniform(-0.6, 0.6), y - random.uniform(-0.6, 0.6))
        total += np.sin(2 * math.pi * random.uniform(2, 5) * distance + random.uniform(0, 6.3))
    return gradient(0.5 + 0.5 * total / count, varied(random, "0b2d5c", "2f86b5", "e8f6fa"))


def skyline(random: Generator) -> Field:
    """Towers with windows, lit or dark, in front of a sky."""
    x, y = coordinates()
    top, bottom, wall, lamp = varied(random, "141233", "7a4a78", "5b5a78", "ffd76a")
    picture = mix(y + 0.5, top, bottom)
    for layer, depth in enumerate(sorted(random.uniform(0.2, 0.8, random.integers(4, 8)))):
        centre, half = random.uniform(-0.5, 0.5), random.uniform(0.08, 0.16)
        height = random.uniform(-0.35, 0.3) + 0.2 * depth
        inside = np.minimum(half - np.abs(x - centre), y - height)
        pitch = random.uniform(0.07, 0.11)
        u, v = (x - centre + half) / pitch, (y - height) / pitch
        lit = random.random((64, 64))[np.floor(v).astype(int) % 64, np.floor(u).astype(int) % 64] < 0.45
        window = np.maximum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5))
        pane = step_up(0.3 - window, SIDE * pitch) * lit * step_up(inside - 0.3 * pitch)
        tower = mix(pane, (0.75 - 0.5 * depth) * wall + 0.03 * (layer % 2), lamp)
        picture = mix(step_up(inside), picture, tower)
    return picture


def spots(random: Generator) -> Field:
    """Spots or stripes as of an animal's coat: thresholded noise of one wavelength (after Turing 1952)."""
    field = banded_noise(random, random.uniform(3, 6), random.uniform(0.12, 0.3))
    level = random.choice([-0.8, 0.0, 0.8])
    coat, mark = varied(random, "d9a35a", "2e1c10")
    shade = 1 + 0.1 * fractal_noise(random, 1.5)
    return mix(step_up(field - level, 4), coat * shade[..., None], mark * shade[..., None])


CLASSES: dict[str, Callable[[Generator], Field]] = {
    draw.__name__: draw
    for draw in (
        bricks, bubbles, cells, clouds, leaves, marble, maze, plaid, ridges, ripples, skyline, spots,
    )
}  # fmt: skip
"""The classes in the order of their labels."""


def draw_scene(label: int, seed: int) -> Tensor:
    """Draws a picture (3, SIZE, SIZE) in bytes.

    Args:
        label: Number of the class.
        seed: Seed of the picture.
    """
    random = np.random.default_rng((seed, label))
    picture = np.clip(list(CLASSES.values())[label](random), 0, 1)
    factor = SIDE // SIZE
    small = picture.reshape(SIZE, factor, SIZE, factor, 3).mean((1, 3))
    return torch.from_numpy((255 * small).round().astype(np.uint8)).permute(2, 0, 1)


def draw_scenes(labels: Tensor, first_seed: int) -> Tensor:
    """Draws pictures (N, 3, SIZE, SIZE) in bytes of the classes `labels` (N,), with consecutive seeds."""
    return torch.stack([draw_scene(label, first_seed + index) for index, label in enumerate(labels.tolist())])
