"""The supported families of checkpoints, by the pipeline class that model_index.json names."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sadaflow.solvers.names.registry import Kind, Registry

from .base import Family, Prompted
from .chroma import Chroma
from .dit import ClassConditional
from .flux import Flux, FluxFill
from .flux2 import Flux2Dev, Flux2Klein
from .flux_kontext import FluxKontext
from .media import AudioFamily, FirstFrameFamily, MelFamily, VideoFamily
from .members import family_of
from .musicldm import MusicLDM
from .options import Negative, Pair
from .qwen_image import QwenImage, QwenImageEdit, QwenImageEditPlus
from .request import Request
from .sd3 import StableDiffusion3
from .sdxl import StableDiffusionXL
from .stable_diffusion import LatentConsistency, StableDiffusion
from .steered import ControlNetClass
from .unconditional import Unconditional, UnconditionalDDIM
from .wan import Wan
from .wan_image import WanImageToVideo
from .z_image import ZImage

_BUILT_IN: Mapping[str, type[Family]] = MappingProxyType(
    {
        "ChromaPipeline": Chroma,
        "Flux2KleinPipeline": Flux2Klein,
        "Flux2Pipeline": Flux2Dev,
        "FluxControlPipeline": Flux,
        "FluxFillPipeline": FluxFill,
        "FluxImg2ImgPipeline": Flux,
        "FluxInpaintPipeline": Flux,
        "FluxKontextPipeline": FluxKontext,
        "FluxPipeline": Flux,
        "LatentConsistencyModelPipeline": LatentConsistency,
        "MusicLDMPipeline": MusicLDM,
        "QwenImageEditPipeline": QwenImageEdit,
        "QwenImageEditPlusPipeline": QwenImageEditPlus,
        "QwenImagePipeline": QwenImage,
        "StableDiffusion3Pipeline": StableDiffusion3,
        "StableDiffusionDepth2ImgPipeline": StableDiffusion,
        "StableDiffusionImg2ImgPipeline": StableDiffusion,
        "StableDiffusionInpaintPipeline": StableDiffusion,
        "StableDiffusionInstructPix2PixPipeline": StableDiffusion,
        "StableDiffusionPipeline": StableDiffusion,
        "StableDiffusionXLImg2ImgPipeline": StableDiffusionXL,
        "StableDiffusionXLInpaintPipeline": StableDiffusionXL,
        "StableDiffusionXLInstructPix2PixPipeline": StableDiffusionXL,
        "StableDiffusionXLPipeline": StableDiffusionXL,
        "WanImageToVideoPipeline": WanImageToVideo,
        "WanPipeline": Wan,
        "ZImagePipeline": ZImage,
        "DDPMPipeline": Unconditional,
        "DDIMPipeline": UnconditionalDDIM,
        "DiTPipeline": ClassConditional,
    }
)

REGISTRY: Final = Registry(Kind("family", "sadaflow.families", family_of), _BUILT_IN)
"""All families by class name; changed by `register_family` alone."""

FAMILIES: Mapping[str, type[Family]] = MappingProxyType(REGISTRY)
"""Read-only view of all families by class name: built in, registered, and those of installed packages."""


def register_family(class_name: str, family: type[Family], *, replace: bool = False) -> None:
    """Makes checkpoints of a pipeline class loadable.

    Args:
        class_name: The `_class_name` of their model_index.json.
        family: A class with the members of `Family`.
        replace: Whether another family that was registered under the name is replaced.

    Raises:
        ValueError: If the name is taken or malformed, or if the class lacks a member.
    """
    REGISTRY.register(class_name, family, replace=replace)


CONTROLNETS: Final[Mapping[str, ControlNetClass]] = MappingProxyType(
    {
        name: known
        for family in _BUILT_IN.values()
        if (classes := getattr(family, "controlnets", None)) is not None
        for name, known in classes.items()
    }
)
"""The supported classes of ControlNets by name."""


_CONTROLLED = "load the checkpoint without ControlNet, and pass the ControlNet as controlnet="
_NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "FluxControlNetPipeline": _CONTROLLED,
        "StableDiffusion3ControlNetPipeline": _CONTROLLED,
        "StableDiffusionControlNetPipeline": _CONTROLLED,
        "StableDiffusionUpscalePipeline": "an upscaler needs a small picture beside the prompt",
        "StableDiffusionXLControlNetPipeline": _CONTROLLED,
    }
)


def unsupported(name: str) -> str:
    """What a pipeline class that is not in `FAMILIES` would need.

    Args:
        name: Name of the class in model_index.json.

    Returns:
        What is missing, as a part of a sentence; "" if the class is unknown.
    """
    return _NEEDS.get(name, "")


__all__ = [
    "CONTROLNETS",
    "FAMILIES",
    "AudioFamily",
    "ClassConditional",
    "ControlNetClass",
    "Family",
    "FirstFrameFamily",
    "Flux",
    "FluxFill",
    "LatentConsistency",
    "MelFamily",
    "MusicLDM",
    "Negative",
    "Pair",
    "Prompted",
    "Request",
    "StableDiffusion",
    "StableDiffusionXL",
    "Unconditional",
    "UnconditionalDDIM",
    "VideoFamily",
    "register_family",
    "unsupported",
]
