"""The causal autoencoder of Wan 2.2 TI2V beside Diffusers' AutoencoderKLWan."""

import re
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from sadaflow.models.causal_autoencoder import CausalAutoencoder, CausalAutoencoderConfig
from sadaflow.models.causal_autoencoder.layers import Past
from sadaflow.models.causal_autoencoder.residual import averaged, repeated
from support.checkpoints_wan import VAE_TI2V, small_vae_ti2v

TILE = 4  # latent positions, of which neighbours share a quarter


@pytest.fixture(scope="module")
def reference() -> AutoencoderKLWan:
    torch.manual_seed(0)
    return small_vae_ti2v()


@pytest.fixture(scope="module")
def vae(reference: Any) -> CausalAutoencoder:
    ours = CausalAutoencoder(CausalAutoencoderConfig.from_dict(dict(reference.config)))
    ours.load_state_dict(reference.state_dict())
    return ours.requires_grad_(False)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_full_size_parameters_have_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        theirs = AutoencoderKLWan.from_config(VAE_TI2V)
        ours = CausalAutoencoder(CausalAutoencoderConfig.from_dict(VAE_TI2V))
    shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert sum(tensor.numel() for tensor in ours.parameters()) / 1e6 == pytest.approx(704.7, abs=0.1)


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_videos_are_encoded_and_decoded_as_by_the_reference(reference: Any, vae: Any, frames: int) -> None:
    video = noise(2, 3, frames, 32, 64)
    theirs, (mean, logvar) = reference.encode(video).latent_dist, vae.encode(video)
    assert mean.shape == (2, 48, (frames - 1) // 4 + 1, 2, 4)
    torch.testing.assert_close(mean, theirs.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(logvar, theirs.logvar, rtol=0, atol=1e-5)
    decoded = reference.decode(theirs.mean).sample
    assert decoded.shape == video.shape
    torch.testing.assert_close(vae.decode(theirs.mean), decoded, rtol=0, atol=1e-5)


def test_a_video_in_parts_is_the_whole_video(vae: CausalAutoencoder) -> None:
    latents, past = noise(1, 48, 5, 2, 3), Past()
    parts = torch.cat([vae.decoder(part, past) for part in latents.split([1, 2, 2], dim=2)], dim=2)
    torch.testing.assert_close(parts, vae.decoder(latents, None), rtol=0, atol=1e-5)
    video, past = noise(1, 3, 17, 32, 48), Past()
    parts = torch.cat([vae.encoder(part, past) for part in video.split([5, 12], dim=2)], dim=2)
    torch.testing.assert_close(parts, vae.encoder(video, None), rtol=0, atol=1e-5)


def test_tiles_are_those_of_the_reference(reference: Any, vae: CausalAutoencoder) -> None:
    latents = noise(1, 48, 2, TILE + 2 * (TILE - 1), TILE)
    reference.enable_tiling(16 * TILE, 16 * TILE, 12 * TILE, 12 * TILE)
    theirs = reference.decode(latents).sample.clamp(-1, 1)
    reference.use_tiling = False
    whole = vae.decode(latents)
    vae.tile = 16 * TILE
    ours, vae.tile = vae.decode(latents), None
    # Where tiles overlap, the reference weights squares of pixels alike, and it puts one more tile at the end of each
    # axis.
    rows = [row for row in range(16 * (latents.shape[-2] - 1)) if row // 16 % (TILE - 1) or row < 16]
    columns = 16 * (TILE - 1)
    torch.testing.assert_close(ours[..., rows, :columns], theirs[..., rows, :columns], rtol=0, atol=1e-5)
    assert (whole - theirs).abs().max() > 0.01


def test_shortcuts_average_and_repeat_neighbours() -> None:
    video = torch.arange(2 * 2 * 2 * 2.0).reshape(1, 2, 2, 2, 2)
    assert torch.equal(averaged(video, 2, 2, 2).flatten(), torch.tensor([3.5, 11.5]))
    assert torch.equal(averaged(video[:, :, :1], 1, 2, 2).flatten(), torch.tensor([(1.5 + 9.5) / 4]))  # beside zeros
    once = repeated(video, 2, 2, 2)
    assert once.shape == (1, 2, 4, 4, 4)
    # Each of two channels becomes the two frames and four positions that each position of a channel is made of.
    assert torch.equal(once[0, :, 0, 0, 0], video[0, :, 0, 0, 0])
    assert torch.equal(once[0, :, 1, 1, 1], video[0, :, 0, 0, 0])


def test_config_round_trip_and_errors() -> None:
    config = CausalAutoencoderConfig.from_dict(VAE_TI2V)
    assert CausalAutoencoderConfig.from_dict(config.to_dict()) == config
    assert (config.downscale, config.frames_per_latent, config.latent_channels, config.in_channels) == (16, 4, 48, 3)
    for wrong, message in (
        ({"in_channels": 3}, "in_channels=3 is not a multiple of 4, the pixels of a patch (patch_size=2)"),
        ({"scale_factor_spatial": 8}, "scale_factor_spatial=8, but the levels make it 16"),
        ({"scale_factor_temporal": 8}, "scale_factor_temporal=8, but the levels make it 4"),
        ({"dim_mult": [1, 2, 4, 8]}, "they are [160, 320, 640, 1280] wide"),
        ({"is_residual": 1}, "is_residual=1 is not true or false"),
        ({"patch_size": 0}, "patch_size=0 is not a whole number"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            CausalAutoencoderConfig.from_dict(VAE_TI2V | wrong)
