"""The tiny autoencoder against Diffusers' AutoencoderTiny, on scaled-down configs with the published fields."""

from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny

from sadaflow.models import TinyAutoencoder, TinyAutoencoderConfig

# The fields of madebyollin/taesd, and of taef1, whose latents have 16 channels, with fewer channels inside.
TAESD: dict[str, Any] = {
    "_class_name": "AutoencoderTiny", "_diffusers_version": "0.20.0.dev0", "act_fn": "relu",
    "decoder_block_out_channels": [8, 8, 8, 8], "encoder_block_out_channels": [8, 8, 8, 8], "force_upcast": False,
    "in_channels": 3, "latent_channels": 4, "latent_magnitude": 3, "latent_shift": 0.5,
    "num_decoder_blocks": [3, 3, 3, 1], "num_encoder_blocks": [1, 3, 3, 3], "out_channels": 3, "scaling_factor": 1.0,
    "upsampling_scaling_factor": 2,
}  # fmt: skip
CONFIGS = {
    "taesd": TAESD,
    "taef1": {**TAESD, "latent_channels": 16, "shift_factor": 0.0, "block_out_channels": [8, 8, 8, 8]},
    "two levels": {**TAESD, "decoder_block_out_channels": [12, 12], "num_decoder_blocks": [2, 1],
                   "encoder_block_out_channels": [4, 4], "num_encoder_blocks": [1, 2]},
    "three pixels": {**TAESD, "upsampling_scaling_factor": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_images_and_latents_are_diffusers(name: str) -> None:
    raw = CONFIGS[name]
    torch.manual_seed(0)
    theirs = AutoencoderTiny(**{key: raw[key] for key in raw if key[0] != "_" and key != "block_out_channels"})
    ours = TinyAutoencoder(TinyAutoencoderConfig.from_dict(raw))
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        latents = 3 * torch.randn(2, raw["latent_channels"], 6, 5)
        expected = theirs.decode(latents).sample
        torch.testing.assert_close(ours.decode(latents), expected, rtol=0, atol=1e-5)
        assert expected.shape[2:] == (6 * ours.config.downscale, 5 * ours.config.downscale)
        images = 2 * torch.rand(2, 3, 32, 24) - 1
        torch.testing.assert_close(ours.encode(images), theirs.encode(images).latents, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"_class_name": "AutoencoderKL"}, "AutoencoderKL"),
        ({"act_fn": "gelu"}, "act_fn='gelu'"),
        ({"upsample_fn": "bilinear"}, "upsample_fn"),
        ({"decoder_block_out_channels": [8, 8, 8]}, r"decoder_block_out_channels=\[8, 8, 8\] must have equal"),
        ({"encoder_block_out_channels": [8, 8, 8, 4]}, r"encoder_block_out_channels=\[8, 8, 8, 4\] must have equal"),
        ({"scaling_factor": 0}, "scaling_factor"),
        ({"wavelets": 2}, "wavelets"),
    ],
)
def test_configs_that_cannot_be_honoured_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TinyAutoencoderConfig.from_dict({**TAESD, **changed})
