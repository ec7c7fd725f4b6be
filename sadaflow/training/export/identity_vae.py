"""An autoencoder that changes nothing, in the layout of AutoencoderKL: with it, a latent transformer samples pixels.

Its weights are not trained. Convolutions copy each colour s to channels s and -s beside constants K and -K, which are
one group of the norms. The group's mean is 0 and its variance (mean(s^2) + K^2) / 2, nearly a constant, so the last
norm multiplies by a constant; and since silu(s) - silu(-s) = s, the last convolution returns s.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sadaflow.models import Autoencoder, AutoencoderConfig

COLOURS = 3
CONSTANT = 32.0
"""K: large beside colours, which are in [-1, 1]; a power of two, so that half precision holds it."""
LOG_VARIANCE = -20.0

DIT_VAE_CONFIG: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [4 * COLOURS],
    "down_block_types": ["DownEncoderBlock2D"],
    "force_upcast": False,
    "in_channels": COLOURS,
    "latent_channels": COLOURS,
    "layers_per_block": 1,
    "mid_block_add_attention": False,
    "norm_num_groups": COLOURS,
    "out_channels": COLOURS,
    "sample_size": 32,
    "scaling_factor": 2.0,
    "shift_factor": None,
    "up_block_types": ["UpDecoderBlock2D"],
    "use_post_quant_conv": False,
    "use_quant_conv": False,
}


@torch.no_grad()
def identity_autoencoder(config: Mapping[str, Any]) -> Autoencoder:
    """Builds the autoencoder.

    Args:
        config: Its config; as `DIT_VAE_CONFIG`, but for the scaling of the latents and the size.
    """
    vae = Autoencoder(AutoencoderConfig.from_dict(config))
    for module in vae.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one
    for half in ("encoder", "decoder"):
        enters, leaves = vae.get_submodule(f"{half}.conv_in"), vae.get_submodule(f"{half}.conv_out")
        assert isinstance(enters, nn.Conv2d) and isinstance(leaves, nn.Conv2d) and enters.bias is not None
        for colour in range(COLOURS):
            plus, minus, above, below = range(4 * colour, 4 * colour + 4)
            enters.weight[plus, colour, 1, 1] = leaves.weight[colour, plus, 1, 1] = 1
            enters.weight[minus, colour, 1, 1] = leaves.weight[colour, minus, 1, 1] = -1
            enters.bias[above], enters.bias[below] = CONSTANT, -CONSTANT
        vae.get_parameter(f"{half}.conv_norm_out.weight").fill_(CONSTANT / math.sqrt(2))
    vae.get_parameter("encoder.conv_out.bias")[COLOURS:] = LOG_VARIANCE
    return vae.eval().requires_grad_(False)
