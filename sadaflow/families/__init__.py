"""The supported families of checkpoints, by the pipeline class that model_index.json names."""

from collections.abc import Mapping
from types import MappingProxyType

from .base import AudioFamily, Family, Prompted
from .chroma import Chroma
from .flux import Flux
from .flux2 import Flux2Dev, Flux2Klein
from .musicldm import MusicLDM
from .options import Negative, Pair
from .request import Request
from .sd3 import StableDiffusion3
from .sdxl import StableDiffusionXL
from .stable_diffusion import LatentConsistency, StableDiffusion
from .z_image import ZImage

FAMILIES: Mapping[str, type[Family]] = MappingProxyType(
    {
        "ChromaPipeline": Chroma,
        "Flux2KleinPipeline": Flux2Klein,
        "Flux2Pipeline": Flux2Dev,
        "FluxPipeline": Flux,
        "LatentConsistencyModelPipeline": LatentConsistency,
        "MusicLDMPipeline": MusicLDM,
        "StableDiffusion3Pipeline": StableDiffusion3,
        "StableDiffusionPipeline": StableDiffusion,
        "StableDiffusionXLImg2ImgPipeline": StableDiffusionXL,
        "StableDiffusionXLPipeline": StableDiffusionXL,
        "ZImagePipeline": ZImage,
    }
)

_INPAINTING = "an inpainting checkpoint needs a picture and a mask beside the prompt"
_CONTROLLED = "load the checkpoint without ControlNet, and pass the ControlNet as controlnet="
_EDITING = "it needs a picture beside the prompt"
_NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "FluxControlPipeline": _EDITING,
        "FluxFillPipeline": _INPAINTING,
        "FluxKontextPipeline": _EDITING,
        "StableDiffusionControlNetPipeline": _CONTROLLED,
        "StableDiffusionDepth2ImgPipeline": "it needs a depth map beside the prompt",
        "StableDiffusionInpaintPipeline": _INPAINTING,
        "StableDiffusionInstructPix2PixPipeline": _EDITING,
        "StableDiffusionUpscalePipeline": "an upscaler needs a small picture beside the prompt",
        "StableDiffusionXLControlNetPipeline": _CONTROLLED,
        "StableDiffusionXLInpaintPipeline": _INPAINTING,
        "StableDiffusionXLInstructPix2PixPipeline": _EDITING,
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
