"""The causal autoencoder's tensors under the names of Wan's authors, transcribed from the published files."""

import re
from collections.abc import Mapping

from torch import Tensor

LAYERS_TI2V = 1
"""Residual blocks of a level of the encoder of `checkpoints_wan.small_vae_ti2v`."""
_INNER = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}
_TOP = {
    "quant_conv": "conv1",
    "post_quant_conv": "conv2",
    "conv_in": "conv1",
    "norm_out": "head.0",
    "conv_out": "head.2",
    "mid_block.resnets.0": "middle.0",
    "mid_block.attentions.0": "middle.1",
    "mid_block.resnets.1": "middle.2",
}


def authors_name(name: str, blocks: int) -> str:
    """The authors' name of a tensor that the Hub calls `name`; a level of the decoder has `blocks` residual blocks."""
    half, _, rest = name.partition(".")
    if half.endswith("quant_conv"):
        return f"{_TOP[half]}.{rest}"
    if up := re.fullmatch(r"up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)\.(.+)", rest):
        index = int(up[1]) * (blocks + 1) + (int(up[3]) if up[2] == "resnets" else blocks)
        rest = f"upsamples.{index}.{up[4]}"
    rest = rest.replace("down_blocks.", "downsamples.")
    rest = next((new + rest.removeprefix(old) for old, new in _TOP.items() if rest.startswith(f"{old}.")), rest)
    rest = rest.replace("conv_shortcut", "shortcut")
    inner = re.search(r"\.(norm1|conv1|norm2|conv2)\.", rest)
    return f"{half}.{rest.replace(inner[1], _INNER[inner[1]]) if inner else rest}"


def authors_name_ti2v(name: str) -> str:
    """The authors' name in Wan 2.2 TI2V, whose levels count the resampling after the residual blocks; see above."""
    level = re.fullmatch(r"(en|de)coder\.(down|up)_blocks\.(\d)\.(?:resnets\.(\d)|(?:down|up)sampler)\.(.+)", name)
    if level is None:
        return authors_name(name, 0)
    half, way, number, block, rest = level.groups()
    index = block or str(LAYERS_TI2V + (half == "de"))
    inner = re.match(r"(norm1|conv1|norm2|conv2|conv_shortcut)\b", rest)
    if inner:
        rest = {**_INNER, "conv_shortcut": "shortcut"}[inner[1]] + rest[inner.end() :]
    return f"{half}coder.{way}samples.{number}.{way}samples.{index}.{rest}"


def to_authors(state: Mapping[str, Tensor], blocks: int, prefix: str = "") -> dict[str, Tensor]:
    """A state of AutoencoderKLQwenImage as the authors' file, each name with a prefix."""
    return {prefix + authors_name(name, blocks): tensor.contiguous() for name, tensor in state.items()}
