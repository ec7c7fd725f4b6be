"""Checks of a single file that need nothing beside it: its layout, and its tensors against the networks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sadaflow.models import AutoencoderConfig, FluxTransformer, UNet, UNetConfig

from ..loading.layouts.autoencoders import CAUSAL, VAES
from ..loading.layouts.row import Layout
from ..loading.layouts.table import layout_of
from ..loading.safetensors_file import Stored
from ..loading.single_file import autoencoder, causal_autoencoder, controlnet, flux, schedulers, unet
from ..loading.single_file.layout import SingleFile
from ..loading.single_file.text_encoder import load_text
from ..loading.strict import Loader
from .single_file import scheduler_of_sd, scheduler_of_xl
from .single_file_parts import Aid
from .unet import further_inputs

_CLASSES = {
    "clip": "CLIPTextModel",
    "open_clip": "OpenCLIP text encoder",
    "t5": "T5EncoderModel",
    "decoder": "language model",
}
_TEXTS = ("text_encoder", "text_encoder_2", "text_encoder_3")
_LATENT, _FLUX_LATENT = 4, 16  # channels of the latents


@dataclass
class CheckedFile:
    """What a single file holds.

    Attributes:
        layout: Its row in the table of layouts; None if it is of none.
        parts: Class and tensors of each component, by name.
        scheduler: The scheduler config that it implies; empty if there is none.
        guided: Whether a transformer embeds guidance.
        lacks: Components that must come from elsewhere.
        needs: What the network reads beside latents and prompt; None if nothing.
    """

    layout: Layout | None
    parts: dict[str, tuple[str, tuple[Stored, ...]]] = field(default_factory=dict)
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    guided: bool = True
    lacks: tuple[str, ...] = ()
    needs: str | None = None


def read_single_file(path: Path) -> tuple[SingleFile, CheckedFile]:
    """Read the header of a file; raises ValueError if it is not a safetensors file."""
    file = SingleFile(path)
    layout = layout_of(file.all_shapes)
    parts = dict(_parts(file, layout)) if layout is not None else {}
    return file, CheckedFile(layout, parts or {path.name: ("" if layout is None else layout.kind, file.stored)})


def _parts(file: SingleFile, layout: Layout) -> Iterator[tuple[str, tuple[str, tuple[Stored, ...]]]]:
    if layout.refused is not None or layout.kind not in ("pipeline", "network"):
        return
    transformer = bool(layout.pipelines) or layout.family == "flux"
    name = "FluxTransformer2DModel" if transformer else "UNet2DConditionModel"
    own = [prefix for prefix in (*VAES, *(prefix for prefix, _ in layout.texts)) if file.has(prefix)]
    network = tuple(each for each in file.section(layout.prefix).stored if not each.name.startswith(tuple(own)))
    yield "transformer" if transformer else "unet", (layout.name if layout.pipelines else name, network)
    for prefix in own:
        if prefix in VAES:
            yield "vae", ("AutoencoderKL", file.section(prefix).stored)
    names = ("text_encoder_2",) if layout.family == "refiner" else _TEXTS
    for name, (prefix, style) in zip(names, layout.texts, strict=False):
        if prefix in own:
            yield name, (_CLASSES.get(style, "CLIPTextModel"), file.section(prefix).stored)


def _lacking(layout: Layout, parts: Mapping[str, Any]) -> tuple[str, ...]:
    """What a file with a network whose config it lacks takes from the checkpoint that it is loaded with."""
    texts = _TEXTS[: max(len(layout.texts), 1)]
    return ("configs", *(name for name in ("vae", *texts) if name not in parts))


def check_single_file(file: SingleFile, checked: CheckedFile) -> None:
    """Match the tensors of a supported file with its networks, without reading them, and complete `checked`.

    Raises:
        ValueError: If tensors are missing, unexpected or misshaped, or if nothing says what the network predicts.
    """
    layout, loader = checked.layout, Loader(torch.float32, torch.device("cpu"))
    if layout is None or layout.refused is not None:
        return
    section = file.section(layout.prefix)
    if layout.kind == "autoencoder":
        load = causal_autoencoder.load if layout.family == CAUSAL else autoencoder.load
        load(section, {}, loader)
    elif layout.kind == "controlnet":
        names = unet.names_of(section)
        width = section.shapes.get(f"{names.added}.weight", (0, 0))[-1]
        steered = UNetConfig.from_dict(unet.added_config(width, 2) if width else {})
        controlnet.load(section, steered, loader)
    elif layout.pipelines:  # its config is that of the checkpoint that it is loaded with
        checked.lacks = _lacking(layout, checked.parts)
    elif layout.kind in ("pipeline", "network"):
        file.check_read([layout.prefix, *VAES, *(prefix for prefix, _ in layout.texts)])
        _check_checkpoint(file, layout, checked, loader)


def _check_checkpoint(file: SingleFile, layout: Layout, checked: CheckedFile, loader: Loader) -> None:
    network: FluxTransformer | UNet
    if layout.family == "flux":
        network = flux.load(file.section(layout.prefix), loader)
    else:
        network = unet.load_alone(file.section(layout.prefix), loader)
    for prefix in VAES:
        if file.has(prefix):
            autoencoder.load(file.section(prefix), {}, loader)
    last = layout.family in ("xl", "refiner") and layout.texts
    for prefix, style in layout.texts:
        if file.has(prefix):
            projection = bool(last) and prefix == layout.texts[-1][0]
            load_text(file.section(prefix), style, loader, projection=projection)
    wanted = ["vae"] if layout.texts else ["vae", "text_encoder"]
    if isinstance(network, FluxTransformer):
        wanted = ["vae", "text_encoder", "text_encoder_2"]
        checked.guided = network.config.guidance_embeds
        checked.scheduler = schedulers.flux(checked.guided)
    else:
        checked.needs = further_inputs(network.config, AutoencoderConfig(latent_channels=_LATENT))
    checked.lacks = tuple(name for name in wanted if name not in checked.parts)
    if isinstance(network, UNet):
        checked.scheduler = _scheduler(file, network.config, Aid(lambda: file.path, None, None, loader))


def _scheduler(file: SingleFile, config: UNetConfig, aid: Aid) -> Mapping[str, Any]:
    if config.added_width is not None:
        return scheduler_of_xl(file, aid)
    further = config.in_channels != _LATENT
    return scheduler_of_sd(file, aid, second=config.use_linear_projection, further=further)
