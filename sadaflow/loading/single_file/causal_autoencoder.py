"""Loads the causal autoencoder of Wan 2.1 and Qwen-Image from single files; the config is inferred from the shapes."""

from typing import Any

from sadaflow.models.causal_autoencoder import CausalAutoencoder, CausalAutoencoderConfig

from ..strict import Loader
from .layout import FromSection, Section, add_section

_WHAT = "causal autoencoder"


def load(section: Section, scaling: dict[str, Any], loader: Loader) -> CausalAutoencoder:
    """Build the autoencoder of `section`; the loader reads its weights.

    Args:
        section: Its tensors, under the authors' names or the Hub's.
        scaling: `latents_mean` and `latents_std` of the config; without them latents are not normalised.
        loader: Reads the weights.

    Raises:
        ValueError: If tensors are missing, unexpected, misshaped or of the wrong type; each is named.
    """
    config = section.config(CausalAutoencoderConfig.from_dict, infer_config(section, scaling))
    network = section.build(lambda: CausalAutoencoder(config))
    return add_section(network, section, network.original.convert, loader)


def infer_config(section: Section, scaling: dict[str, Any]) -> dict[str, Any]:
    """Infer the config.json from the shapes of the encoder.

    Args:
        section: The tensors, under the authors' names or the Hub's.
        scaling: See `load`.

    Raises:
        ValueError: If the shapes are not those of such an autoencoder.
    """
    hub = "quant_conv.weight" in section.shapes
    stack, first, conv = (
        ("encoder.down_blocks", "conv_in", "conv1") if hub else ("encoder.downsamples", "conv1", "residual.2")
    )
    widths: list[list[int]] = [[]]
    halves_time: list[bool] = []
    for index in range(section.count(stack)):
        block = f"{stack}.{index}"
        if f"{block}.resample.1.weight" in section.shapes:
            widths.append([])
            halves_time.append(f"{block}.time_conv.weight" in section.shapes)
        else:
            widths[-1].append(section.shape(f"{block}.{conv}.weight", _WHAT, 5)[0])
    base, colours = section.shape(f"encoder.{first}.weight", _WHAT, 5)[:2]
    depth = len(widths[0])
    if any(len(level) != depth or len(set(level)) != 1 or level[0] % base for level in widths):
        raise ValueError(f"{section.label}: blocks of {widths} channels are not those of a {_WHAT} of {base}")
    latent = section.shape(f"{'post_quant_conv' if hub else 'conv2'}.weight", _WHAT, 5)[0]
    return {
        "base_dim": base,
        "z_dim": latent,
        "dim_mult": [level[0] // base for level in widths],
        "num_res_blocks": depth,
        "temperal_downsample": halves_time,
        "input_channels": colours,
        "latents_mean": list(scaling.get("latents_mean") or [0.0] * latent),
        "latents_std": list(scaling.get("latents_std") or [1.0] * latent),
    }


def from_section(section: Section) -> FromSection:
    """The autoencoder of a section, under the authors' names or the Hub's, for a checkpoint that has its config."""
    return FromSection(section, lambda network: network.original.convert)
