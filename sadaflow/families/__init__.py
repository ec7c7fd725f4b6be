"""The kinds of checkpoint that a pipeline can hold, by the class that model_index.json names."""

from collections.abc import Mapping
from types import MappingProxyType

from .base import AudioFamily, Family, Negative, Prompted, Request
from .flux import Flux
from .musicldm import MusicLDM
from .options import Options, Pair
from .sdxl import StableDiffusionXL
from .stable_diffusion import StableDiffusion

FAMILIES: Mapping[str, type[Family]] = MappingProxyType(
    {
        "FluxPipeline": Flux,
        "MusicLDMPipeline": MusicLDM,
        "StableDiffusionPipeline": StableDiffusion,
        "StableDiffusionXLImg2ImgPipeline": StableDiffusionXL,
        "StableDiffusionXLPipeline": StableDiffusionXL,
    }
)

__all__ = [
    "FAMILIES",
    "AudioFamily",
    "Family",
    "Flux",
    "MusicLDM",
    "Negative",
    "Options",
    "Pair",
    "Prompted",
    "Request",
    "StableDiffusion",
    "StableDiffusionXL",
]
