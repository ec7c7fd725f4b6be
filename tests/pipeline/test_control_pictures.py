"""The values that a ControlNet gets from images of every mode and from arrays."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from sadaflow import Pipeline
from sadaflow.cli import main
from sadaflow.files.images import from_array, from_pil, picture_digest, read_image
from sadaflow.pipeline.control import Control

SIZE = (6, 4)
Array = np.ndarray[Any, Any]


def shown(picture: Any, size: tuple[int, int] = SIZE) -> Array:
    """What one ControlNet is shown, (3, H, W)."""
    read = Control.read(picture, 1.0, 0.0, 1.0, nets=1, samples=1, size=size)
    assert read is not None and read.images.dtype == torch.float32
    return read.images[0, 0].numpy()


def grey(values: Array) -> Array:
    return np.broadcast_to(values.astype(np.float64), (3, *values.shape))


@given(arrays.arrays(np.uint16, SIZE, elements=st.integers(0, 65535)))
def test_sixteen_bits_are_divided_by_65535(depth: Array) -> None:
    expected = grey(depth / 65535)
    for picture in (Image.fromarray(depth), depth, depth.astype(">u2"), depth[:, :, None]):
        np.testing.assert_allclose(shown(picture), expected, rtol=1e-6, atol=1e-9)
    if depth.max() > 255:
        for picture in (Image.fromarray(depth.astype(np.int32)), Image.fromarray(depth.astype(np.float32))):
            assert picture.mode in "IF"
            np.testing.assert_allclose(shown(picture), expected, rtol=1e-6, atol=1e-9)


@given(arrays.arrays(np.uint8, (*SIZE, 3)))
def test_eight_bits_are_divided_by_255_in_every_mode(rgb: Array) -> None:
    expected = rgb.transpose(2, 0, 1).astype(np.float64) / 255
    picture = Image.fromarray(rgb)
    alpha = Image.fromarray(np.full(SIZE, 7, np.uint8))
    with_alpha = picture.copy()
    with_alpha.putalpha(alpha)
    for same in (picture, rgb, with_alpha, np.asarray(with_alpha)):
        np.testing.assert_allclose(shown(same), expected, rtol=1e-6)
    one = rgb[..., 0]
    flat = Image.fromarray(one)
    for same in (flat, one, one[..., None], Image.merge("LA", (flat, alpha)), flat.convert("P")):
        np.testing.assert_allclose(shown(same), grey(one / 255), rtol=1e-6)


def test_palettes_and_print_colours_are_converted_as_pillow_does() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    palette = Image.fromarray(rgb).quantize(8)
    palette.info["transparency"] = 0
    for picture in (palette, Image.fromarray(rgb).convert("CMYK"), Image.fromarray(rgb).convert("YCbCr")):
        expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(shown(picture), expected, rtol=1e-6)
    black_and_white = Image.fromarray(rgb[..., 0] > 100)
    assert black_and_white.mode == "1"
    np.testing.assert_array_equal(shown(black_and_white), grey(rgb[..., 0] > 100))
    np.testing.assert_array_equal(shown(rgb[..., 0] > 100), grey(rgb[..., 0] > 100))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_lie_in_0_and_1(dtype: Any) -> None:
    values = np.linspace(0, 1, 72).reshape(*SIZE, 3).astype(dtype)
    np.testing.assert_allclose(shown(values), values.transpose(2, 0, 1).astype(np.float64), rtol=1e-6)
    one = values[..., 0].astype(np.float32)
    np.testing.assert_allclose(shown(Image.fromarray(one)), grey(one), rtol=1e-6)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (Image.fromarray(np.full(SIZE, 200, np.int32)), "mode I.*200.*ambiguous"),
        (Image.fromarray(np.full(SIZE, 70000, np.int32)), "mode I.*ambiguous"),
        (Image.fromarray(np.full(SIZE, -1, np.int32)), "mode I.*ambiguous"),
        (Image.fromarray(np.full(SIZE, 1.5, np.float32)), "mode F.*1.5.*ambiguous"),
        (Image.fromarray(np.full(SIZE, np.nan, np.float32)), "mode F.*nan.*ambiguous"),
        (np.full(SIZE, 1.5), r"\[0, 1\].*1.5"),
        (np.full(SIZE, np.nan), r"\[0, 1\].*nan"),
        (np.zeros(SIZE, np.int64), "int64"),
        (np.zeros((3, 6, 5), np.uint8), r"shape \(3, 6, 5\)"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"),
        (np.zeros((1, *SIZE, 3), np.uint8), "shape"),
        ("edges.png", "got str"),
        (torch.zeros(3, *SIZE, dtype=torch.uint8), "uint8"),
        (torch.full((3, *SIZE), torch.nan), "nan"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_by_name(picture: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"control.*{words}"):
        shown(picture)


@pytest.mark.parametrize("mode", ["I;16", "F", "RGB"])
def test_pictures_are_stretched_by_lanczos(mode: str) -> None:
    """16 bits as 8 bits are, to the rounding of 8 bits; edges do not leave [0, 1]."""
    eight = np.random.default_rng(1).integers(0, 256, (8, 8), dtype=np.uint8)
    eight[:, :4], eight[:, 4:6] = 0, 255
    expected = np.asarray(Image.fromarray(eight).resize((4, 6), Image.Resampling.LANCZOS)) / 255
    deep = eight.astype(np.uint16) * 257
    picture = {"I;16": deep, "F": (eight / 255).astype(np.float32), "RGB": np.repeat(eight[..., None], 3, axis=2)}[mode]
    found = shown(Image.fromarray(picture))
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(found, grey(expected), atol=1.01 / 255)
    np.testing.assert_array_equal(from_array(picture, SIZE).numpy(), found)


def test_numbers_of_controlnets_are_read_by_name() -> None:
    picture = np.zeros(SIZE, np.uint8)
    read = Control.read(picture, np.array([0.5]), torch.tensor(0.0), np.float32(1), nets=1, samples=1, size=SIZE)
    assert read is not None and read.scale == (0.5,) and type(read.scale[0]) is float
    for bad in (float("nan"), "1", True, None):
        with pytest.raises(ValueError, match="control_scale"):
            Control.read(picture, bad, 0.0, 1.0, nets=1, samples=1, size=SIZE)


@pytest.mark.parametrize("name", ["depth.png", "depth.tif"])
def test_the_command_shows_what_the_api_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    depth = np.random.default_rng(2).integers(0, 65536, (64, 64), dtype=np.uint16)
    Image.fromarray(depth).save(name)
    np.testing.assert_allclose(from_pil(read_image(name), (64, 64)), grey(depth / 65535), rtol=1e-6)
    arguments = ["--steps", "2", "--controlnet", "tiny-controlnet", "--control", name, "--out", "made.png"]
    assert main(["generate", "fox", "--solver", "euler", "--accelerate", "none", *arguments]) == 0
    pipe = Pipeline.from_pretrained(controlnet="tiny-controlnet")
    made = pipe("fox", steps=2, solver="euler", control=Image.open(name)).images[0]
    assert np.array_equal(np.asarray(Image.open("made.png")), np.asarray(made))


@pytest.mark.parametrize("kind", ["pipe", "folder", "missing", "huge", "empty", "text"])
@pytest.mark.parametrize("read", [read_image, picture_digest])
def test_files_that_hold_no_picture_are_refused_at_once(kind: str, read: Any, tmp_path: Path) -> None:
    path = tmp_path / "control.png"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "huge":
            with path.open("wb") as file:
                file.truncate(2**31)
        case "empty" | "text":
            path.write_text("" if kind == "empty" else "not a picture")
            if read is picture_digest:
                return
    with pytest.raises(ValueError, match="control.png.*cannot be read"):
        read(path)
