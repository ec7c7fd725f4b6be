"""Loads tiny autoencoders (TAESD) from folders, and their decoders from single files, by the tensors' shapes."""

import re
from itertools import count
from pathlib import Path

from torch import Tensor

from sadaflow.models import TinyAutoencoder, TinyAutoencoderConfig

from ..checkpoint import Checkpoint
from ..layouts.table import require_layout
from ..strict import Convert, Loader, UnknownTensor
from .layout import Section, SingleFile, add_section

KIND = "tiny autoencoder"
_HUB = "decoder.layers."
_NAME = re.compile(r"(\d+)\.(.+)")


def load_tiny(source: Path, loader: Loader) -> TinyAutoencoder:
    """Build the tiny autoencoder of a file, without its encoder, or of a folder of the Hub.

    Args:
        source: The file or folder.
        loader: Reads the weights.

    Raises:
        ValueError: If it is of another layout or class, or if tensors are missing, unexpected or misshaped.
    """
    if source.is_file():
        return load_decoder(SingleFile(source), loader)
    checkpoint = Checkpoint(source, None, loader.dtype, loader.device, loader.keeper, loader.pending)
    config = checkpoint.read(TinyAutoencoderConfig.from_dict, "config.json")
    return checkpoint.network("", lambda: TinyAutoencoder(config))


def load_decoder(file: SingleFile, loader: Loader) -> TinyAutoencoder:
    """Build the tiny autoencoder of a file, of which the decoder alone is read; the loader reads its weights.

    Args:
        file: A file of the authors, with the decoder alone or beside the encoder; or of the Hub.
        loader: Reads the weights.

    Raises:
        ValueError: If it is of another layout, or if tensors are missing, unexpected or misshaped; each is named.
    """
    layout = require_layout(file.all_shapes, file.path, (KIND,), "a tiny autoencoder")
    section = file.section(layout.prefix)
    # The authors' first layer limits the latents' range and has no weights; the Hub's layout does not count it.
    first = 0 if layout.prefix == _HUB else 1
    config = section.config(TinyAutoencoderConfig.from_dict, infer_config(section, first))
    network = section.build(lambda: TinyAutoencoder(config, encodes=False))
    add_section(network.decoder, section, _renumbered(first), loader)
    return network


def infer_config(section: Section, first: int) -> dict[str, object]:
    """The fields of a config.json that follow from the shapes of a decoder.

    Args:
        section: The decoder's tensors, by the number of their layer.
        first: Number of the first layer with weights.

    Raises:
        ValueError: If they are not those of a tiny decoder.
    """
    what = "tiny decoder"
    width, channels = section.shape(f"{first}.weight", what, 4)[:2]
    blocks, index = [0], first + 2  # after the first convolution and its ReLU
    for layer in count(index):
        if f"{layer}.conv.0.weight" in section.shapes:
            blocks[-1] += 1
        elif f"{layer}.bias" in section.shapes:  # the last convolution; those after upsampling have no bias
            break
        elif f"{layer}.weight" in section.shapes:
            blocks.append(0)
        elif f"{layer + 1}.weight" not in section.shapes:  # upsampling has no weights
            section.shape(f"{layer + 1}.weight", what, 4)
    return {
        "latent_channels": channels,
        "out_channels": section.shape(f"{layer}.weight", what, 4)[0],
        "decoder_block_out_channels": [width] * len(blocks),
        "encoder_block_out_channels": [width] * len(blocks),
        "num_decoder_blocks": blocks,
        "num_encoder_blocks": blocks[::-1],
    }


def _renumbered(first: int) -> Convert:
    """The conversion from the number of a layer to the Hub's name in the decoder."""

    def convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
        match = _NAME.fullmatch(name)
        if match is None or int(match[1]) < first:
            raise UnknownTensor(f"tensor {name!r} is not part of a tiny decoder")
        return {f"layers.{int(match[1]) - first}.{match[2]}": tensor}

    return convert
