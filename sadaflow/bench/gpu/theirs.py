"""Diffusers' pipelines with the same tensors, if Diffusers is installed or the checkout holds a wheel of it."""

import atexit
import importlib.util
import logging
import shutil
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..speed.sides import packed, unpacked
from .clock import Spans
from .networks import Network

_WHEELS = ("", "wheels", ".wheels", ".whl")
_CLASSES = {
    "sd21": ("StableDiffusionPipeline", "UNet2DConditionModel"),
    "sdxl": ("StableDiffusionXLPipeline", "UNet2DConditionModel"),
    "flux": ("FluxPipeline", "FluxTransformer2DModel"),
}


def make_importable(root: Path) -> str | None:
    """Makes `diffusers` importable, if necessary from a wheel.

    The newest `diffusers-*.whl` in the checkout's root or its folders `wheels`, `.wheels` and `.whl` is unpacked into a
    temporary folder.

    Returns:
        None on success, else the reason.
    """
    if importlib.util.find_spec("diffusers") is None:
        wheels = sorted(wheel for folder in _WHEELS for wheel in (root / folder).glob("diffusers-*.whl"))
        if not wheels:
            return "Diffusers is not installed, and no diffusers-*.whl lies in the checkout or its wheels folder"
        folder = tempfile.mkdtemp(prefix="diffusers-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        with zipfile.ZipFile(wheels[-1]) as wheel:
            wheel.extractall(folder)
        sys.path.append(folder)
        importlib.invalidate_caches()
    return None


def imported() -> Any:
    """Imports `diffusers` and silences its log."""
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    return diffusers


def preload() -> None:
    """Imports the classes that are used, which `diffusers` otherwise imports at their first use."""
    diffusers = imported()
    for name in {name for names in _CLASSES.values() for name in names}:
        getattr(diffusers, name)


class Theirs:
    """Diffusers' pipeline with the weights of `network`.

    Weights of convolutions are copied to the memory layout that Diffusers loads; all other tensors are shared.
    """

    def __init__(self, network: Network) -> None:
        diffusers = imported()
        pipeline, model = _CLASSES[network.name]
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            backbone = getattr(diffusers, model).from_config(dict(network.config))
        state = {name: tensor.contiguous() for name, tensor in network.backbone.state_dict().items()}
        backbone.load_state_dict(state, strict=True, assign=True)
        self.backbone = backbone.requires_grad_(False).eval()
        scheduler = getattr(diffusers, str(network.made.scheduler["_class_name"])).from_config(network.made.scheduler)
        parts = dict.fromkeys(("vae", "text_encoder", "tokenizer"))
        if network.name == "sd21":
            parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        else:
            parts |= {"text_encoder_2": None, "tokenizer_2": None}
        parts |= {"add_watermarker": False} if network.name == "sdxl" else {}
        part = "transformer" if network.is_flux else "unet"
        self.pipe = getattr(diffusers, pipeline)(scheduler=scheduler, **{part: self.backbone}, **parts)
        self.pipe.set_progress_bar_config(disable=True)
        self.network = network

    def run(self, batch: int, steps: int, spans: Spans | None = None) -> Tensor:
        """Samples latents (batch, C, h, w) from the network's noise and conditioning.

        Calls of the backbone are recorded in `spans`.
        """
        network, noise = self.network, self.network.noise(batch).to(self.network.dtype)
        given = network.conditioning(batch)
        call: dict[str, Any] = {
            "prompt_embeds": given["context"],
            "latents": packed(noise) if network.is_flux else noise,
        }
        if "pooled" in given:
            call["pooled_prompt_embeds"] = given["pooled"]
        if not network.is_flux:
            call["negative_prompt_embeds"] = torch.zeros_like(given["context"])
        if network.name == "sdxl":
            call["negative_pooled_prompt_embeds"] = torch.zeros_like(given["pooled"])
        height, width = (8 * side for side in network.shape[1:])
        call |= {"height": height, "width": width, "guidance_scale": network.guidance}
        handles = [] if spans is None else self._hooks(spans)
        try:
            made = self.pipe(num_inference_steps=steps, output_type="latent", **call)[0]
        finally:
            for handle in handles:
                handle.remove()
        return unpacked(made, (noise.shape[-2], noise.shape[-1])) if network.is_flux else made

    def _hooks(self, spans: Spans) -> list[Any]:
        entered: list[Any] = []

        def enter(*_: object) -> None:
            entered.append(spans.span())
            entered[-1].__enter__()

        def leave(*_: object) -> None:
            entered.pop().__exit__(None, None, None)

        return [self.backbone.register_forward_pre_hook(enter), self.backbone.register_forward_hook(leave)]
