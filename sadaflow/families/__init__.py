"""The kinds of checkpoint that a pipeline can hold, by the class that model_index.json names."""

from collections.abc import Mapping
from types import MappingProxyType

from .base import AudioFamily, Family, Prompted
from .flux import Flux
from .musicldm import MusicLDM
from .options import Negative, Pair
from .request import Request
from .sdxl import StableDiffusionXL
from .stable_diffusion import LatentConsistency, StableDiffusion

FAMILIES: Mapping[str, type[Family]] = MappingProxyType(
    {
        "FluxPipeline": Flux,
        "LatentConsistencyModelPipeline": LatentConsistency,
        "MusicLDMPipeline": MusicLDM,
        "StableDiffusionPipeline": StableDiffusion,
        "StableDiffusionXLImg2ImgPipeline": StableDiffusionXL,
        "StableDiffusionXLPipeline": StableDiffusionXL,
    }
)

_INPAINTING = "an inpainting checkpoint needs a picture and a mask beside the prompt"
_EDITING = "it needs a picture beside the prompt"
_NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "FluxControlPipeline": _EDITING,
        "FluxFillPipeline": _INPAINTING,
        "FluxKontextPipeline": _EDITING,
        "StableDiffusionControlNetPipeline": "load the checkpoint without ControlNet, and name that as controlnet=",
        "StableDiffusionDepth2ImgPipeline": "it needs a depth map beside the prompt",
        "StableDiffusionInpaintPipeline": _INPAINTING,
        "StableDiffusionInstructPix2PixPipeline": _EDITING,
        "StableDiffusionUpscalePipeline": "an upscaler needs a small picture beside the prompt",
        "StableDiffusionXLControlNetPipeline": "load the checkpoint without ControlNet, and name that as controlnet=",
        "StableDiffusionXLInpaintPipeline": _INPAINTING,
        "StableDiffusionXLInstructPix2PixPipeline": _EDITING,
    }
)


def unsupported(kind: str) -> str:
    """What a checkpoint of a class that is not among `FAMILIES` would need; "" for a class that is not known."""
    return _NEEDS.get(kind, "")


__all__ = [
    "FAMILIES",
    "AudioFamily",
    "Family",
    "Flux",
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
