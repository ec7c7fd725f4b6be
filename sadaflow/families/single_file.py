"""Loads the components of a pipeline from a single file; `loading.layouts` has the table of layouts."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from sadaflow.models import UNetConfig
from sadaflow.models.causal_autoencoder import CausalAutoencoder

from ..loading.checkpoint import Checkpoint, Replacement
from ..loading.layouts.autoencoders import VAES
from ..loading.layouts.row import Layout
from ..loading.layouts.table import require_layout
from ..loading.single_file import autoencoder, causal_autoencoder, flux, schedulers, unet
from ..loading.single_file.layout import FromSection, SingleFile
from ..loading.single_file.text_section import TextOfSection
from . import FAMILIES
from .base import Family, replace_vae
from .flux import Flux, FluxFill, fills
from .flux_kontext import FluxKontext
from .hooks import autoencoder_class, original_of
from .prompt_encoder import ClipText
from .sdxl import StableDiffusionXL
from .single_file_parts import Aid, load_clip, load_t5, load_vae
from .stable_diffusion import StableDiffusion

_SD_SCALING = {"scaling_factor": 0.18215}
_XL_SCALING = {"scaling_factor": 0.13025, "force_upcast": True}
_FLUX_SCALING = {"scaling_factor": 0.3611, "shift_factor": 0.1159}


def assemble(path: Path, aid: Aid) -> tuple[Family, dict[str, Any]]:
    """Build the components of a single file; `aid.loader.fill` reads the weights.

    Args:
        path: The file.
        aid: Sources of what it lacks.

    Returns:
        The components, and the scheduler config that they were published with.

    Raises:
        ValueError: If the layout is unknown or not supported, or if a tensor is missing, unexpected or misshaped.
    """
    file = SingleFile(path)
    layout = layout_of_checkpoint(file)
    prefixes = [layout.prefix, *VAES, *(prefix for prefix, _ in layout.texts)]
    file.check_read(prefixes)
    if layout.pipelines:
        family, scheduler = _of_base(file, layout, aid)
    elif layout.family == "flux":
        family, scheduler = _flux(file, layout, aid)
    elif layout.family == "sd" and not unet.reads_pooled_text(file.section(layout.prefix)):
        family, scheduler = _stable_diffusion(file, layout, aid)
    else:
        family, scheduler = _stable_diffusion_xl(file, layout, aid)
    if (needs := getattr(family, "needs", None)) is not None:
        warnings.warn(f"{path} loads, but cannot be sampled yet: {needs}", stacklevel=5)
    return family, scheduler


def layout_of_checkpoint(file: SingleFile) -> Layout:
    """The row of a file that holds a checkpoint or its network; raises ValueError if it holds anything else."""
    return require_layout(file.all_shapes, file.path, ("pipeline", "network"), "a checkpoint or its network")


def _of_base(file: SingleFile, layout: Layout, aid: Aid) -> tuple[Family, dict[str, Any]]:
    """The checkpoint `base` with the weights of the file in its transformer."""
    if aid.prediction is not None:
        raise ValueError(f"prediction={aid.prediction!r}: {layout.name} predicts the flow; leave it out")
    base = aid.from_base("autoencoder", file)
    name = str(base.json("model_index.json").get("_class_name"))
    if name not in layout.pipelines:
        raise ValueError(
            f"base={base.root} is a {name[:80]}, and {file.path} holds: {layout.name}; it needs a base of the class "
            f"{' or '.join(layout.pipelines)}"
        )
    family_class = FAMILIES[name]
    network = FromSection(file.section(layout.prefix), original_of(family_class))
    replaced: dict[str, Replacement] = {"transformer": network, **_texts_of_file(file, layout, base)}
    causal = issubclass(autoencoder_class(family_class), CausalAutoencoder)
    for prefix in filter(file.has, VAES):
        replaced["vae"] = (causal_autoencoder if causal else autoencoder).from_section(file.section(prefix))
    family = family_class.prepare(replace(base, replaced=replaced))()
    if aid.vae is not None:
        replace_vae(family, aid.vae, aid.loader)
    return family, family_class.scheduler_config(base.json("scheduler", "scheduler_config.json"))


def _texts_of_file(file: SingleFile, layout: Layout, base: Checkpoint) -> dict[str, Replacement]:
    """The text encoders that the file holds, by component of `base`."""
    found: dict[str, Replacement] = {}
    for index, (prefix, style) in enumerate(layout.texts):
        if not file.has(prefix):
            continue
        component = f"text_encoder_{index + 1}" if index else "text_encoder"
        if base.json("model_index.json").get(component) in (None, [None, None]):
            raise ValueError(
                f"{file.path} holds a text encoder ({prefix}*), and base={base.root} has no {component}, whose config "
                "and tokenizer it needs: name a base that has it"
            )
        found[component] = TextOfSection(file.section(prefix), style, tuple(base.headers(component, "model")))
    return found


def _stable_diffusion(file: SingleFile, layout: Layout, aid: Aid) -> tuple[Family, dict[str, Any]]:
    section = file.section(layout.prefix)
    inferred = UNetConfig.from_dict(section.config(dict, unet.infer_config(section, None, 64)))
    scheduler = scheduler_of_sd(file, aid, second=inferred.use_linear_projection, further=inferred.in_channels != 4)
    size = 96 if inferred.use_linear_projection and scheduler.get("prediction_type") == "v_prediction" else 64
    backbone = unet.load(section, None, aid.loader, size=size)
    vae = load_vae(file, aid, _SD_SCALING)
    if layout.texts:
        text = load_clip(file, aid, *layout.texts[0])
    else:
        text = ClipText.build(ClipText.prepare(aid.from_base("text encoder", file)))
    return StableDiffusion(backbone, vae, text, aid.dtype), scheduler


def scheduler_of_sd(file: SingleFile, aid: Aid, *, second: bool, further: bool) -> dict[str, Any]:
    """The scheduler config of SD 1.x or 2.x: that of `base` if neither the user nor the file says what it predicts.

    Args:
        file: The file.
        aid: Sources of what it lacks.
        second: Whether it is SD 2.x, whose weights do not show what they predict.
        further: Whether the U-Net has further inputs: such networks of SD 2.x predict epsilon.

    Raises:
        ValueError: If nothing says what the network predicts.
    """
    distilled = schedulers.few_steps(file.path.stem, file.metadata)
    noted = schedulers.noted_prediction(aid.prediction, file.metadata, file.marks)
    if noted is None and distilled is None and (base := aid.base_scheduler()) is not None:
        return StableDiffusion.scheduler_config(base)
    if noted is None and second and distilled is None and not further:
        raise ValueError(
            f"{file.path} is a Stable Diffusion 2.x, whose weights do not show what they predict: pass "
            "prediction='v_prediction' (the models of 768 pixels) or prediction='epsilon' (base, 512 pixels)"
        )
    return schedulers.stable_diffusion(noted or "epsilon", distilled)


def scheduler_of_xl(file: SingleFile, aid: Aid) -> dict[str, Any]:
    """The scheduler config of SDXL: that of `base` if neither the user nor the file implies another."""
    distilled = schedulers.few_steps(file.path.stem, file.metadata)
    noted = schedulers.noted_prediction(aid.prediction, file.metadata, file.marks)
    zero_snr = "ztsnr" in file.marks
    base = aid.base_scheduler() if noted is None and distilled is None and not zero_snr else None
    return base or schedulers.stable_diffusion_xl(noted or "epsilon", zero_snr, distilled)


def _stable_diffusion_xl(file: SingleFile, layout: Layout, aid: Aid) -> tuple[Family, dict[str, Any]]:
    scheduler = scheduler_of_xl(file, aid)
    section = file.section(layout.prefix)
    if layout.texts:
        texts = [
            load_clip(file, aid, prefix, style, projection=index == len(layout.texts) - 1)
            for index, (prefix, style) in enumerate(layout.texts)
        ]
    else:
        texts = _base_texts(file, unet.context_width(section), aid)
    pooled, refiner = texts[-1].encoder.config.projection_dim, len(texts) == 1
    family = StableDiffusionXL(
        unet.load(section, (pooled, 5 if refiner else 6), aid.loader, size=128),
        load_vae(file, aid, _XL_SCALING, statistics=True),
        texts,
        aid.dtype,
        zero_negative=not refiner,
        aesthetic=refiner,
    )
    return family, scheduler


def _base_texts(file: SingleFile, width: int, aid: Aid) -> list[ClipText]:
    """The text encoders of `base` for a U-Net of XL that reads states of `width`: the refiner reads the second only."""
    base = aid.from_base("text encoders", file)
    second = ClipText.prepare(base, "_2", "CLIPTextModelWithProjection", pooled=True)
    if second.config.hidden_size == width:
        return [ClipText.build(second)]
    return [ClipText.build(ClipText.prepare(base)), ClipText.build(second)]


def _flux_class(file: SingleFile, aid: Aid, fill: bool) -> type[Flux]:
    """The class of a Flux.1 checkpoint. Kontext has the tensors of dev; `base`, the file's name or metadata tell it."""
    if fill:
        return FluxFill
    base = {} if aid.base is None else aid.checkpoint(aid.base()).json("model_index.json")
    of_base = base.get("_class_name") == "FluxKontextPipeline"
    return FluxKontext if of_base or schedulers.says("kontext", file.path.stem, file.metadata) else Flux


def _flux(file: SingleFile, layout: Layout, aid: Aid) -> tuple[Family, dict[str, Any]]:
    if aid.prediction is not None:
        raise ValueError(f"prediction={aid.prediction!r}: Flux.1 predicts the flow; leave it out")
    backbone = flux.load(file.section(layout.prefix), aid.loader)
    vae = load_vae(file, aid, _FLUX_SCALING)
    texts = {style: prefix for prefix, style in layout.texts if file.has(prefix)}
    if "clip" in texts:
        clip = load_clip(file, aid, texts["clip"], "clip")
    else:
        clip = ClipText.build(ClipText.prepare(aid.from_base("CLIP text encoder", file), pooled=True))
    family_class = _flux_class(file, aid, fills(backbone.config, vae.config))
    family = family_class(backbone, vae, clip, load_t5(file, aid, texts.get("t5")), aid.dtype)
    return family, schedulers.flux(backbone.config.guidance_embeds)
