"""The supported families of checkpoints, by the pipeline class that model_index.json names."""

from collections.abc import Mapping
from types import MappingProxyType

from .base import AudioFamily, Family, Prompted
from .flux import Flux, FluxFill
from .musicldm import MusicLDM
from .options import Negative, Pair
from .request import Request
from .sdxl import StableDiffusionXL
from .stable_diffusion import LatentConsistency, StableDiffusion

FAMILIES: Mapping[str, type[Family]] = MappingProxyType(
    {
        "FluxFillPipeline": FluxFill,
        "FluxImg2ImgPipeline": Flux,
        "FluxInpaintPipeline": Flux,
        "FluxPipeline": Flux,
        "LatentConsistencyModelPipeline": LatentConsistency,
        "MusicLDMPipeline": MusicLDM,
        "StableDiffusionImg2ImgPipeline": StableDiffusion,
        "StableDiffusionInpaintPipeline": StableDiffusion,
        "StableDiffusionInstructPix2PixPipeline": StableDiffusion,
        "StableDiffusionPipeline": StableDiffusion,
        "StableDiffusionXLImg2ImgPipeline": StableDiffusionXL,
        "StableDiffusionXLInpaintPipeline": StableDiffusionXL,
        "StableDiffusionXLInstructPix2PixPipeline": StableDiffusionXL,
        "StableDiffusionXLPipeline": StableDiffusionXL,
    }
)

_CONTROLLED = "load the checkpoint without ControlNet, and pass the ControlNet as controlnet="
_EDITING = "it needs a picture beside the prompt"
_NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "FluxControlPipeline": _EDITING,
        "FluxKontextPipeline": _EDITING,
        "StableDiffusionControlNetPipeline": _CONTROLLED,
        "StableDiffusionDepth2ImgPipeline": "it needs a depth map beside the prompt",
        "StableDiffusionUpscalePipeline": "an upscaler needs a small picture beside the prompt",
        "StableDiffusionXLControlNetPipeline": _CONTROLLED,
    }
)


def unsupported(name: str) -> str:
    """What a pipeline class that is not in `FAMILIES` would need; "" if the class is unknown."""
    return _NEEDS.get(name, "")


__all__ = [
    "FAMILIES",
    "AudioFamily",
    "Family",
    "Flux",
    "FluxFill",
    "LatentConsistency",
    "MusicLDM",
    "Negative",
    "Pair",
    "Prompted",
    "Request",
    "StableDiffusion",
    "StableDiffusionXL",
    "unsupported",
]
