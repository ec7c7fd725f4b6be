"""Tiled decoding against Diffusers' tiles where both place them alike, and against blending weights in closed form."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from sadaflow import Pipeline
from sadaflow.metrics import psnr
from sadaflow.models import Autoencoder, AutoencoderConfig
from sadaflow.models.tiling import decode_tiled

TILE = 32  # latent positions; of them neighbours share 8
CONFIG = {
    "block_out_channels": (16, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 8,
    "sample_size": 2 * TILE,
}


@pytest.fixture(scope="module")
def reference() -> AutoencoderKL:
    torch.manual_seed(0)
    vae = AutoencoderKL(**CONFIG).eval()
    vae.enable_tiling()
    return vae


@pytest.fixture
def vae(reference: AutoencoderKL) -> Autoencoder:
    ours = Autoencoder(AutoencoderConfig.from_dict(dict(reference.config))).eval()
    ours.load_state_dict(reference.state_dict())
    ours.tile = 2 * TILE
    return ours


@torch.no_grad()
@pytest.mark.parametrize("tall", [True, False])
def test_tiles_are_those_of_the_reference(reference: AutoencoderKL, vae: Autoencoder, tall: bool) -> None:
    size = (TILE + 2 * (TILE - 8), TILE)
    latents = torch.randn(2, 4, *(size if tall else size[::-1]), generator=torch.Generator().manual_seed(1))
    ours, theirs = vae.decode(latents), reference.decode(latents).sample
    # The reference puts one more tile, of shared positions alone, at the end of each axis.
    rows, columns = (2 * side - 16 for side in latents.shape[2:])
    torch.testing.assert_close(ours[..., :rows, :columns], theirs[..., :rows, :columns], rtol=0, atol=1e-5)
    vae.tile = None
    assert (vae.decode(latents) - theirs).abs().max() > 0.01  # the whole is something else


@torch.no_grad()
@pytest.mark.parametrize("tall", [True, False])
def test_images_are_encoded_in_the_tiles_of_the_reference(
    reference: AutoencoderKL, vae: Autoencoder, tall: bool
) -> None:
    size = (2 * (TILE + 2 * (TILE - 8)), 2 * TILE)
    images = torch.randn(1, 3, *(size if tall else size[::-1]), generator=torch.Generator().manual_seed(1))
    ours, theirs = vae.encode(images), reference.encode(images).latent_dist
    rows, columns = (side // 2 - 8 for side in images.shape[2:])  # as above, without the reference's last tile
    for mine, other in zip(ours, (theirs.mean, theirs.logvar), strict=True):
        torch.testing.assert_close(mine[..., :rows, :columns], other[..., :rows, :columns], rtol=0, atol=1e-5)
    vae.tile = None
    assert (vae.encode(images)[0] - theirs.mean).abs().max() > 0.001


@pytest.mark.parametrize("length", [32, 33, 47, 56, 57, 80, 81, 97, 200])
def test_one_tile_fades_into_the_next(length: int) -> None:
    starts = []

    def decode(part: torch.Tensor) -> torch.Tensor:
        """Every pixel of a tile holds the tile's number."""
        starts.append(int(part[0, 0, 0, 0]))
        return torch.full((1, 1, 2 * part.shape[2], 2 * part.shape[3]), float(len(starts) - 1))

    latents = torch.arange(length).float().view(1, 1, length, 1).expand(-1, -1, -1, 3)
    made = decode_tiled(decode, latents, TILE, 2)[0, 0].double().numpy()
    assert made.shape == (2 * length, 6) and np.ptp(made, axis=1).max() == 0
    fewest = 1 if length == TILE else -(-(length - 8) // 24)
    assert len(starts) == fewest and starts[0] == 0 and starts[-1] == length - TILE
    assert max(np.diff(starts), default=0) <= 24
    middles = [one + TILE + other for one, other in zip(starts, starts[1:], strict=False)]
    corners = [middle + shift for middle in middles for shift in (-8, 8)]
    numbers = [number + step for number in range(len(starts) - 1) for step in (0, 1)]
    expected = np.interp(np.arange(2 * length), corners, numbers) if corners else np.zeros(2 * length)
    np.testing.assert_allclose(made[:, 0], expected, atol=1e-5)


@torch.no_grad()
def test_corners_weigh_four_tiles(vae: Autoencoder) -> None:
    latents = torch.randn(1, 4, 56, 56, generator=torch.Generator().manual_seed(2))
    vae.tile = None
    tiles = {(y, x): vae.decode(latents[..., y : y + TILE, x : x + TILE]) for y in (0, 24) for x in (0, 24)}
    vae.tile = 2 * TILE
    fade, one, zero = torch.arange(16) / 16, torch.ones(48), torch.zeros(48)
    weights = {0: torch.cat((one, 1 - fade, zero)), 24: torch.cat((zero, fade, one))}
    expected = sum(
        torch.nn.functional.pad(tile, (2 * x, 48 - 2 * x, 2 * y, 48 - 2 * y)) * weights[y][:, None] * weights[x]
        for (y, x), tile in tiles.items()
    )
    torch.testing.assert_close(vae.decode(latents), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_trained_autoencoder_hardly_shows_its_tiles() -> None:
    vae = Pipeline.from_pretrained().vae
    sheet = Image.open(Path(__file__).parents[2] / "docs" / "tiny-sd-contact-sheet.png").convert("RGB")
    picture = torch.from_numpy(np.array(sheet.crop((128, 128, 384, 384)))).permute(2, 0, 1)[None].float() / 255
    latents, _ = vae.encode(2 * picture - 1)

    def decoded(tile: int | None) -> torch.Tensor:
        vae.tile = tile
        return (vae.decode(latents) / 2 + 0.5).clamp(0, 1)

    whole, tiled = decoded(None), decoded(192)
    assert 38 < psnr(tiled, whole) < 60
    assert psnr(tiled, picture) > psnr(whole, picture) - 0.1


@pytest.mark.parametrize("side", [0, 4, 12, -8, 64.0, "64", True])
def test_sides_that_are_none(vae: Autoencoder, side: object) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        vae.tile = side
