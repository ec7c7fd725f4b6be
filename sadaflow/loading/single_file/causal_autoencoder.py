"""Loads the causal autoencoder of Wan and Qwen-Image from single files; the config is inferred from the shapes."""

from collections.abc import Iterator
from math import isqrt
from typing import Any, Final

from sadaflow.models.causal_autoencoder import CausalAutoencoder, CausalAutoencoderConfig

from ..strict import Loader
from .layout import FromSection, Section, add_section

_WHAT: Final = "causal autoencoder"
_COLOURS: Final = 3


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
    """Infer the config.json from the shapes.

    Args:
        section: The tensors, under the authors' names or the Hub's.
        scaling: See `load`.

    Raises:
        ValueError: If the shapes are not those of such an autoencoder.
    """
    hub = "quant_conv.weight" in section.shapes
    first, conv = ("conv_in", "conv1") if hub else ("conv1", "residual.2")
    widths: list[list[int]] = [[]]
    halves_time: list[bool] = []
    residual = _has_levels(section, hub)
    for layer in _layers(section, hub, residual):
        if f"{layer}.resample.1.weight" in section.shapes:
            widths.append([])
            halves_time.append(f"{layer}.time_conv.weight" in section.shapes)
        else:
            widths[-1].append(section.shape(f"{layer}.{conv}.weight", _WHAT, 5)[0])
    base, channels = section.shape(f"encoder.{first}.weight", _WHAT, 5)[:2]
    depth = len(widths[0])
    if any(len(level) != depth or len(set(level)) != 1 or level[0] % base for level in widths):
        raise ValueError(f"{section.label}: blocks of {widths} channels are not those of a {_WHAT} of {base}")
    latent = section.shape(f"{'post_quant_conv' if hub else 'conv2'}.weight", _WHAT, 5)[0]
    multiples = [level[0] // base for level in widths]
    return {
        "base_dim": base,
        "z_dim": latent,
        "dim_mult": multiples,
        "num_res_blocks": depth,
        "temperal_downsample": halves_time,
        "in_channels": channels,
        "out_channels": channels,
        "latents_mean": list(scaling.get("latents_mean") or [0.0] * latent),
        "latents_std": list(scaling.get("latents_std") or [1.0] * latent),
        **(_of_levels(section, first, multiples[-1], channels) if residual else {}),
    }


def _has_levels(section: Section, hub: bool) -> bool:
    """Whether the encoder has levels, as that of Wan 2.2 TI2V; in Wan 2.1 its layers are numbered throughout."""
    start = "encoder.down_blocks.0.resnets." if hub else "encoder.downsamples.0.downsamples."
    return any(name.startswith(start) for name in section.shapes)


def _layers(section: Section, hub: bool, levels: bool) -> Iterator[str]:
    """Names of the encoder's residual blocks and downsamplings, in order."""
    stack = "encoder.down_blocks" if hub else "encoder.downsamples"
    for index in range(section.count(stack)):
        if not levels:
            yield f"{stack}.{index}"
            continue
        inner = f"{stack}.{index}.{'resnets' if hub else 'downsamples'}"
        yield from (f"{inner}.{block}" for block in range(section.count(inner)))
        if f"{stack}.{index}.downsampler.resample.1.weight" in section.shapes:
            yield f"{stack}.{index}.downsampler"


def _of_levels(section: Section, first: str, multiple: int, channels: int) -> dict[str, Any]:
    """Fields of an autoencoder with levels, whose networks see squares of pixels and whose decoder may be wider."""
    inner = section.shape(f"decoder.{first}.weight", _WHAT, 5)[0]
    patch = isqrt(channels // _COLOURS)
    if channels != _COLOURS * patch**2 or inner % multiple:
        raise ValueError(
            f"{section.label}: {channels} channels of the encoder's input and {inner} of the decoder's first layer are "
            f"not those of a {_WHAT}"
        )
    return {"is_residual": True, "patch_size": patch, "decoder_base_dim": inner // multiple}


def from_section(section: Section) -> FromSection:
    """The autoencoder of a section, under the authors' names or the Hub's, for a checkpoint that has its config."""
    return FromSection(section, lambda network: network.original.convert)
