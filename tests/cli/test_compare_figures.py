"""The figures that `compare` writes: where pictures, frames, strips and spectrograms stand."""

import numpy as np
import torch

from sadaflow.compare import Comparison, Request, Row, table
from sadaflow.compare.image_figure import draw
from sadaflow.compare.sound_figure import draw_sound
from sadaflow.display.modes import MODE_COLOURS
from sadaflow.files.images import to_pil


def comparison(images: torch.Tensor, offset: float, prompt: str) -> Comparison:
    modes = (("full", "stepwise", "multistep", "full"),)
    rows = [
        Row(name, made, (4.0,), modes, (1.0,), (0.0,), (30.0,), (1.0,) if images.shape[1] == 3 else ())
        for name, made in (("plain", images), ("fast", images + offset))
    ]
    return Comparison((prompt,), Request(steps=4), "fast", tuple(rows))


def test_spectrograms_are_drawn_the_right_way_up() -> None:
    """Loud in the high bands of the first half alone: bright above at the left, dark below and at the right."""
    image = torch.zeros(1, 1, 40, 8)
    image[..., :20, 4:] = 1.0
    picture = draw_sound(comparison(image, 0.0, "a $5 song, 歌"), 0.1)
    tone = np.asarray(picture.convert("L"), dtype=float)
    assert "SSIM" not in table(comparison(image, 0.0, "a"))
    column, rows = tone[:, int(0.25 * tone.shape[1])], tone[:, int(0.75 * tone.shape[1])]
    first = np.flatnonzero(rows < 10)[0]  # where the first panel begins: black at the right
    height = int(0.2 * tone.shape[0])
    assert column[first : first + height // 3].mean() > 200
    assert column[first + 2 * height // 3 : first + height - 10].mean() < 60
    pixels = {bytes(colour) for colour in np.asarray(picture).reshape(-1, 3)}
    for mode in ("full", "stepwise", "multistep"):
        assert bytes.fromhex(MODE_COLOURS[mode][1:]) in pixels


def test_the_control_picture_stands_before_the_others() -> None:
    images = torch.rand(1, 3, 320, 320) * 0.5
    control = to_pil(torch.rand(1, 3, 320, 320))[0]
    unit, side = 16, 320
    picture = draw(comparison(images, 0.1, "a"), controls=[control])
    assert picture.width == 4 * side + 5 * unit
    panel = picture.crop((unit, 4 * unit, unit + side, 4 * unit + side))
    assert np.array_equal(np.asarray(panel), np.asarray(control))
    second = picture.crop((2 * unit + side, 4 * unit, 2 * (unit + side), 4 * unit + side))
    assert np.array_equal(np.asarray(second), np.asarray(to_pil(images)[0]))


def test_a_white_picture_on_the_white_page_has_an_edge() -> None:
    """Around each panel: one line of grey, and the page beyond it."""
    unit, side = 16, 320
    picture = np.asarray(draw(comparison(torch.ones(1, 3, side, side), 0.0, "snow")))
    for column in range(2):
        left, top = unit + column * (side + unit), 4 * unit
        around = picture[top - 2 : top + side + 2, left - 2 : left + side + 2]
        assert (around[0] == 255).all() and (around[:, 0] == 255).all()
        edges = around[1, 1:-1], around[-2, 1:-1], around[1:-1, 1], around[1:-1, -2]
        assert all((edge == 204).all() for edge in edges)
        assert (around[2:-2, 2:-2] == 255).all()
