"""Names of the causal autoencoder's tensors in the layout of Wan's authors, which files of Qwen-Image share."""

from typing import Final

from ..original_layout import Fused, OriginalLayout, in_blocks
from .config import CausalAutoencoderConfig

_RESIDUAL: Final = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}
_RESAMPLE: Final = {name: name for name in ("resample.1", "time_conv")}
_ATTENTION: Final = {name: name for name in ("norm", "to_qkv", "proj")}
_MIDDLE: Final = (("resnets.0", _RESIDUAL), ("attentions.0", _ATTENTION), ("resnets.1", _RESIDUAL))


def original_layout(config: CausalAutoencoderConfig) -> OriginalLayout:
    """Returns the authors' names for a network of this config."""
    ends = {"conv1": "quant_conv", "conv2": "post_quant_conv", **_ends("encoder"), **_ends("decoder")}
    return OriginalLayout({**ends, **(_levels(config) if config.residual else _numbered(config))})


def _numbered(config: CausalAutoencoderConfig) -> dict[str, str | Fused]:
    """Names within the stacks of Wan 2.1, whose authors number the decoder's layers without its levels."""
    return {
        **in_blocks("encoder.downsamples", "encoder.down_blocks", {**_RESIDUAL, **_RESAMPLE}),
        **_upsamples(len(config.block_out_channels), config.layers_per_block + 1),
    }


def _levels(config: CausalAutoencoderConfig) -> dict[str, str | Fused]:
    """Names within the levels of Wan 2.2."""
    levels, blocks = len(config.block_out_channels), config.layers_per_block
    return {
        **_in_levels(levels, blocks, "encoder.downsamples.{}.downsamples", "encoder.down_blocks.{}", "downsampler"),
        **_in_levels(levels, blocks + 1, "decoder.upsamples.{}.upsamples", "decoder.up_blocks.{}", "upsampler"),
    }


def _in_levels(levels: int, blocks: int, authors: str, hub: str, resample: str) -> dict[str, str]:
    """Names within the levels of a half, whose resampling the authors count as the layer after the residual blocks."""
    found: dict[str, str] = {}
    for level in range(levels):
        for block in range(blocks):
            found |= _within(f"{authors.format(level)}.{block}", f"{hub.format(level)}.resnets.{block}", _RESIDUAL)
        if level < levels - 1:
            found |= _within(f"{authors.format(level)}.{blocks}", f"{hub.format(level)}.{resample}", _RESAMPLE)
    return found


def _ends(half: str) -> dict[str, str]:
    """Names of the first, middle and last layers of a half."""
    middle = [
        _within(f"{half}.middle.{index}", f"{half}.mid_block.{name}", table)
        for index, (name, table) in enumerate(_MIDDLE)
    ]
    first = {f"{half}.conv1": f"{half}.conv_in"}
    last = {f"{half}.head.0": f"{half}.norm_out", f"{half}.head.2": f"{half}.conv_out"}
    return {**first, **{old: new for names in middle for old, new in names.items()}, **last}


def _upsamples(levels: int, blocks: int) -> dict[str, str]:
    """Names of the decoder's levels, each of some residual blocks and an upsampling, which the last level lacks."""
    found: dict[str, str] = {}
    for level in range(levels):
        start, hub = level * (blocks + 1), f"decoder.up_blocks.{level}"
        for block in range(blocks):
            found |= _within(f"decoder.upsamples.{start + block}", f"{hub}.resnets.{block}", _RESIDUAL)
        if level < levels - 1:
            found |= _within(f"decoder.upsamples.{start + blocks}", f"{hub}.upsamplers.0", _RESAMPLE)
    return found


def _within(authors: str, hub: str, table: dict[str, str]) -> dict[str, str]:
    return {f"{authors}.{old}": f"{hub}.{new}" for old, new in table.items()}
