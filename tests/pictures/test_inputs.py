"""Pictures and masks of every form: the right picture, or an error that names the argument."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sadaflow import Pipeline
from sadaflow.families import Request
from sadaflow.pipeline.pictures import Pictures, read_pictures
from support.pictures import mask, picture

PIL = picture()
ARRAY = np.asarray(PIL)
TENSOR = torch.from_numpy(ARRAY.copy()).permute(2, 0, 1) / 255


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline.from_pretrained()


def read(pipe: Pipeline, image: Any, prompts: Any = "a", **arguments: Any) -> Pictures:
    found = read_pictures(Request(prompts, image=image, **arguments), pipe.family)
    assert found is not None
    return found


def shown(pipe: Pipeline, image: Any, **arguments: Any) -> torch.Tensor:
    """The picture that is encoded, in [0, 1]."""
    images = read(pipe, image, **arguments).images
    assert images is not None and images.dtype == torch.float32
    return images[0] / 2 + 0.5


def test_the_same_picture_in_every_form(pipe: Pipeline, tmp_path: Path) -> None:
    opaque = PIL.copy()
    opaque.putalpha(255)
    sixteen = np.asarray(PIL.convert("L")).astype(np.uint16) * 257
    for same in (PIL, opaque, ARRAY, ARRAY / 255, TENSOR, TENSOR[None], 2 * TENSOR - 1, [PIL], np.asarray(opaque)):
        torch.testing.assert_close(shown(pipe, same), TENSOR, rtol=0, atol=1e-6)
    grey = torch.from_numpy(sixteen / 65535).float().expand(3, -1, -1)
    for same in (Image.fromarray(sixteen), sixteen, PIL.convert("L"), PIL.convert("L").convert("LA")):
        torch.testing.assert_close(shown(pipe, same), grey, rtol=0, atol=1e-6)
    for ending in ("png", "webp", "tiff"):
        PIL.save(tmp_path / f"picture.{ending}", lossless=True)
        torch.testing.assert_close(shown(pipe, tmp_path / f"picture.{ending}"), TENSOR, rtol=0, atol=1e-6)


def test_pictures_are_turned_as_their_exif_data_says(pipe: Pipeline, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    path = tmp_path / "turned.png"
    PIL.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    for same in (path, Image.open(path)):
        torch.testing.assert_close(shown(pipe, same), TENSOR, rtol=0, atol=1e-6)


def test_a_picture_keeps_its_size_in_whole_tokens_or_is_stretched(pipe: Pipeline) -> None:
    odd = picture(size=(44, 68))  # tokens of 4 pixels; PIL's own resize is the reference
    odd = odd.resize((67, 42), Image.Resampling.LANCZOS)
    expected = np.asarray(odd.resize((64, 40), Image.Resampling.LANCZOS)) / np.float32(255)
    np.testing.assert_allclose(shown(pipe, odd).permute(1, 2, 0), expected, atol=1e-6)
    assert read(pipe, odd, height=64, width=32).size == (64, 32)
    assert read(pipe, odd, noise=torch.zeros(1, 4, 8, 12)).size == (8 * 4, 12 * 4)
    assert pipe("a", image=odd, steps=2, strength=0.5).images[0].size == (64, 40)


def test_one_for_all_or_one_for_each(pipe: Pipeline) -> None:
    assert len(read(pipe, PIL, ["a", "b"]).images) == 1
    assert len(read(pipe, [PIL, ARRAY], ["a", "b"], mask=mask()).images) == 2
    first = pipe(["a", "b"], image=[PIL, picture(1)], steps=4, seed=[1, 2], output="latent").latents
    alone = pipe("b", image=picture(1), steps=4, seed=2, output="latent").latents
    torch.testing.assert_close(first[1:], alone, rtol=0, atol=1e-4)
    two = Request(["a", "b"], image=[PIL, picture(1)], mask=mask(), seed=[1, 2]).sample(1)
    assert two.image == picture(1) and two.mask == mask()


def test_a_mask_is_grey_and_what_is_white_is_repainted(pipe: Pipeline) -> None:
    grey = np.asarray(mask())
    expected = torch.from_numpy(grey >= 128)[None, None]  # 128 / 255 is the first value of at least one half
    values = torch.from_numpy(grey.copy())
    for same in (
        mask(),
        mask().convert("RGB"),
        grey,
        grey / 255,
        np.stack([grey] * 3, -1),
        values[None] / 255,
        values / 255,
    ):
        assert torch.equal(read(pipe, PIL, mask=same).repainted, expected)
    assert torch.equal(read(pipe, PIL, mask=grey >= 128).repainted, expected)
    cells = read(pipe, PIL, mask=mask()).repainted_latents(4)
    assert torch.equal(cells, expected[..., ::4, ::4])
    small = mask().resize((28, 20), Image.Resampling.NEAREST)
    back = np.asarray(small.resize((56, 40), Image.Resampling.LANCZOS)) >= 128
    assert torch.equal(read(pipe, PIL, mask=small).repainted[0, 0], torch.from_numpy(back))


TRANSPARENT = PIL.copy()
TRANSPARENT.putalpha(100)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("https://example.org/a.png", "image: 'https://example.org/a.png' is a URL: download it"),
        ("data:image/png;base64,AAAA", "image: .* is a URL"),
        ("missing.png", "image: the picture 'missing.png' cannot be read"),
        (TRANSPARENT, "image: it has transparent pixels"),
        (np.asarray(TRANSPARENT), "image: it has transparent pixels"),
        (TENSOR * float("nan"), "image: .* must hold finite floats"),
        (ARRAY / 255 * np.nan, "image: .* must lie in"),
        (TENSOR * 255, r"image: tensors are RGB in \[0, 1\], or in \[-1, 1\]; got .* to 2"),
        ((TENSOR * 255).byte(), "image: a tensor of torch.uint8 must hold finite floats"),
        (TENSOR[:, :, :-1], "image: a tensor of 40x55 pixels for a picture of 40x52: tensors are not resized"),
        (TENSOR[:2], r"image: a tensor of shape \(2, 40, 56\) is not a picture"),
        (torch.full((1, 4, 8, 8), float("inf")), "image: a tensor of 4 channels is latents, of finite floats"),
        ([PIL, PIL, PIL], r"image has 3 pictures for 2 prompt\(s\): give one for all, or one for each"),
        ([PIL, picture(size=(80, 80))], r"image: pictures of several sizes \(40x56, 80x80\) in one call"),
        (picture(size=(4, 4)).resize((3, 3)), "image: a picture of 3x3 pixels is smaller than 4x4"),
        (b"bytes", "image: a bytes is not a picture: give a path"),
    ],
)  # fmt: skip
def test_pictures_that_cannot_be_used(pipe: Pipeline, image: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pipe(["a", "b"], image=image)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Image.new("L", (56, 40)), "mask: nothing in it is white: its largest value is 0 of 1"),
        (np.ones((40, 56), np.uint8), r"mask: nothing in it is white: its largest value is 0\.0039"),
        (Image.new("RGBA", (56, 40)), "mask: it has transparent pixels"),
        (torch.ones(1, 20, 56), "mask: a tensor of 20x56 pixels for a picture of 40x56"),
        (torch.ones(3, 40, 56), "mask: a tensor of shape .* is not a mask"),
        (torch.full((40, 56), 2.0), r"mask: masks lie in \[0, 1\]"),
        ([mask(), Image.new("L", (56, 40))], r"mask\[1\]: nothing in it is white"),
    ],
)
def test_masks_that_cannot_be_used(pipe: Pipeline, given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pipe(["a", "b"], image=PIL, mask=given)


def test_animations_are_refused_and_a_phones_picture_is_its_first(pipe: Pipeline, tmp_path: Path) -> None:
    frames = [picture(1), picture(2)]
    for ending in ("gif", "webp", "tiff", "png"):
        PIL.save(tmp_path / f"a.{ending}", save_all=True, append_images=frames)
        with pytest.raises(ValueError, match=f"image: the picture '.*a.{ending}' has 3 frames"):
            read(pipe, tmp_path / f"a.{ending}")
    PIL.save(tmp_path / "phone.mpo", save_all=True, append_images=frames, quality=95)
    assert float((shown(pipe, tmp_path / "phone.mpo") - TENSOR).abs().mean()) < 0.05  # JPEG
