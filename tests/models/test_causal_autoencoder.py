"""The causal video autoencoder beside Diffusers' AutoencoderKLQwenImage and AutoencoderKLWan."""

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLQwenImage, AutoencoderKLWan
from torch import Tensor

from sadaflow.models.causal_autoencoder import CausalAutoencoder, CausalAutoencoderConfig
from sadaflow.models.causal_autoencoder.layers import Past

STATISTICS = {
    "latents_mean": [-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508]
    + [0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921],
    "latents_std": [2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743]
    + [3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.916],
}
PUBLISHED: dict[str, Any] = {
    "_class_name": "AutoencoderKLQwenImage",
    "_diffusers_version": "0.34.0.dev0",
    "attn_scales": [],
    "base_dim": 96,
    "dim_mult": [1, 2, 4, 4],
    "dropout": 0.0,
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
    "z_dim": 16,
    **STATISTICS,
}
SMALL = {"base_dim": 4, "num_res_blocks": 1}
TILE = 8  # latent positions; of them neighbours share 2
REFERENCES = pytest.mark.parametrize("reference", [AutoencoderKLQwenImage, AutoencoderKLWan], indirect=True)


@pytest.fixture(scope="module")
def reference(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    kind = getattr(request, "param", AutoencoderKLQwenImage)
    vae = kind(**{name: value for name, value in (PUBLISHED | SMALL).items() if name[0] != "_"}).eval()
    for parameter in vae.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    return vae.requires_grad_(False)


@pytest.fixture(scope="module")
def vae(reference: Any) -> CausalAutoencoder:
    ours = CausalAutoencoder(CausalAutoencoderConfig.from_dict(dict(reference.config)))
    ours.load_state_dict(reference.state_dict())
    return ours.requires_grad_(False)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", [AutoencoderKLQwenImage, AutoencoderKLWan])
def test_full_size_parameters_have_the_published_names_and_shapes(kind: Any) -> None:
    with torch.device("meta"):
        theirs = kind.from_config(PUBLISHED)
        ours = CausalAutoencoder(CausalAutoencoderConfig.from_dict(PUBLISHED | {"_class_name": kind.__name__}))
    shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (ours, theirs)]
    assert shapes[0] == shapes[1]


@REFERENCES
@pytest.mark.parametrize("frames", [1, 5, 9])
def test_videos_are_encoded_and_decoded_as_by_the_reference(reference: Any, vae: Any, frames: int) -> None:
    video = noise(2, 3, frames, 24, 40)
    theirs, (mean, logvar) = reference.encode(video).latent_dist, vae.encode(video)
    torch.testing.assert_close(mean, theirs.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(logvar, theirs.logvar, rtol=0, atol=1e-5)
    decoded = reference.decode(theirs.mean).sample
    assert decoded.shape == video.shape
    torch.testing.assert_close(vae.decode(theirs.mean), decoded, rtol=0, atol=1e-5)


def test_an_image_is_a_video_of_one_frame(vae: CausalAutoencoder) -> None:
    image = noise(2, 3, 16, 24)
    for ours, video in zip(vae.encode(image), vae.encode(image[:, :, None]), strict=True):
        assert torch.equal(ours, video[:, :, 0])
    latents = vae.encode(image)[0]
    assert torch.equal(vae.decode(latents), vae.decode(latents[:, :, None])[:, :, 0])


def test_a_video_in_parts_is_the_whole_video(vae: CausalAutoencoder) -> None:
    latents, past = noise(1, 16, 5, 2, 3), Past()
    parts = torch.cat([vae.decoder(part, past) for part in latents.split([1, 2, 2], dim=2)], dim=2)
    torch.testing.assert_close(parts, vae.decoder(latents, None), rtol=0, atol=1e-5)
    video, past = noise(1, 3, 17, 16, 24), Past()
    parts = torch.cat([vae.encoder(part, past) for part in video.split([5, 12], dim=2)], dim=2)
    torch.testing.assert_close(parts, vae.encoder(video, None), rtol=0, atol=1e-5)


def test_later_frames_do_not_change_earlier_ones(vae: CausalAutoencoder) -> None:
    video = noise(1, 3, 9, 16, 16)
    torch.testing.assert_close(vae.encode(video[:, :, :5])[0], vae.encode(video)[0][:, :, :2], rtol=0, atol=1e-6)


def test_tiles_are_those_of_the_reference(reference: Any, vae: CausalAutoencoder) -> None:
    latents = noise(1, 16, 2, TILE + 2 * (TILE - 2), TILE)
    reference.enable_tiling(8 * TILE, 8 * TILE, 6 * TILE, 6 * TILE)
    theirs = reference.decode(latents).sample.clamp(-1, 1)
    reference.use_tiling = False
    whole = vae.decode(latents)
    vae.tile = 8 * TILE
    ours, vae.tile = vae.decode(latents), None
    # The reference puts one more tile, of shared positions alone, at the end of each axis.
    rows, columns = (8 * (side - 2) for side in latents.shape[-2:])
    torch.testing.assert_close(ours[..., :rows, :columns], theirs[..., :rows, :columns], rtol=0, atol=1e-5)
    assert (whole - theirs).abs().max() > 0.01


def test_encoded_tiles_are_those_of_the_reference(reference: Any, vae: CausalAutoencoder) -> None:
    video = noise(1, 3, 5, 8 * (TILE + 2 * (TILE - 2)), 8 * TILE)
    reference.enable_tiling(8 * TILE, 8 * TILE, 6 * TILE, 6 * TILE)
    theirs = reference.encode(video).latent_dist
    reference.use_tiling = False
    vae.tile = 8 * TILE
    ours, vae.tile = vae.encode(video), None
    rows, columns = (side // 8 - 2 for side in video.shape[-2:])  # see above
    for found, expected in zip(ours, (theirs.mean, theirs.logvar), strict=True):
        torch.testing.assert_close(found[..., :rows, :columns], expected[..., :rows, :columns], rtol=0, atol=1e-5)
    assert (vae.encode(video)[0] - theirs.mean).abs().max() > 1e-3


def test_half_precision_stays_close(vae: CausalAutoencoder) -> None:
    latents = noise(1, 16, 2, 2, 3)
    half = CausalAutoencoder(vae.config).requires_grad_(False)
    half.load_state_dict(vae.state_dict())
    assert (half.bfloat16().decode(latents.bfloat16()).float() - vae.decode(latents)).abs().mean() < 0.05


def test_config_round_trip_and_errors(vae: CausalAutoencoder) -> None:
    config = CausalAutoencoderConfig.from_dict(PUBLISHED)
    assert CausalAutoencoderConfig.from_dict(config.to_dict()) == config
    assert (config.downscale, config.frames_per_latent, config.latent_channels) == (8, 4, 16)
    for wrong, message in (
        ({"attn_scales": [1.0]}, "attn_scales=[1.0] is not supported"),
        ({"temperal_downsample": [True]}, "temperal_downsample has 1 entries for 4 levels"),
        ({"dim_mult": [2, 4, 4, 4]}, "must begin with 1"),
        ({"latents_std": [1.0]}, "latents_std has 1 entries for 16 channels"),
        ({"z_dim": 0}, "z_dim=0 is not a whole number"),
    ):
        with pytest.raises(ValueError, match=message.replace("[", r"\[")):
            CausalAutoencoderConfig.from_dict(PUBLISHED | wrong)
    with pytest.raises(ValueError, match="latents_mean is missing"):
        CausalAutoencoderConfig.from_dict({name: x for name, x in PUBLISHED.items() if name != "latents_mean"})
    with pytest.raises(ValueError, match="4 frames cannot be encoded; use 1 more than a multiple of 4, such as 81"):
        vae.encode(torch.zeros(1, 3, 4, 16, 16))
