"""Loads the components of a pipeline from a single file in the layout of its authors.

Tensor names begin with:

* network: "model.diffusion_model.", or nothing for some files of Flux.1;
* autoencoder: "first_stage_model." or "vae.";
* text encoders: "cond_stage_model.transformer." (SD 1.x), "cond_stage_model.model." (SD 2.x),
  "conditioner.embedders.0.transformer." and "conditioner.embedders.1.model." (SDXL), "conditioner.embedders.0.model."
  (its refiner), "text_encoders.clip_l." and "text_encoders.t5xxl." (Flux.1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sadaflow.models import Autoencoder

from ..loading.checkpoint import Checkpoint
from ..loading.single_file import autoencoder, flux, schedulers, unet
from ..loading.single_file import text_encoder as text
from ..loading.single_file.layout import SingleFile
from ..loading.strict import Loader
from ..loading.text_encoder import prepare_encoder
from ..loading.tokenizer_files import check_ids, load_tokenizer
from .base import Family, autoencoder_config, build_autoencoder
from .flux import Flux
from .prompt_encoder import ClipText, T5Text
from .sdxl import StableDiffusionXL
from .stable_diffusion import StableDiffusion

_NETWORK = "model.diffusion_model."
_VAES = ("first_stage_model.", "vae.")
_CLIP, _OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
_XL = "conditioner.embedders."
_FLUX_CLIP, _FLUX_T5 = "text_encoders.clip_l.transformer.", "text_encoders.t5xxl.transformer."

# Tensors that are not read: averaged copies of the weights, the noise schedule, marks of the training method.
_ASIDE = (
    "model_ema.",
    *("betas", "alphas_cumprod", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod", "logvar"),
    *("log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_"),
    *("denoiser.sigmas", "v_pred", "ztsnr"),
    *("text_encoders.clip_l.logit_scale", "text_encoders.t5xxl.logit_scale"),
)
_SD_SCALING = {"scaling_factor": 0.18215}
_XL_SCALING = {"scaling_factor": 0.13025, "force_upcast": True}
_FLUX_SCALING = {"scaling_factor": 0.3611, "shift_factor": 0.1159}


@dataclass(frozen=True)
class Aid:
    """Sources of what a single file lacks, and how its weights are loaded.

    Attributes:
        tokenizer: Returns a folder in the Hub's layout with the tokenizers; it may download it.
        base: Likewise a folder with the components that the file lacks; None if the user names none.
        prediction: What the network predicts, if the user says so.
        loader: How weights are loaded.
    """

    tokenizer: Callable[[], Path]
    base: Callable[[], Path] | None
    prediction: str | None
    loader: Loader

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the networks."""
        return self.loader.dtype

    def checkpoint(self, root: Path) -> Checkpoint:
        """The checkpoint in a folder, loaded as the file is."""
        loader = self.loader
        return Checkpoint(root, None, loader.dtype, loader.device, loader.keeper, loader.pending)

    def from_base(self, component: str, file: SingleFile) -> Checkpoint:
        """The checkpoint `base`, for a component that the file lacks; raises ValueError if there is none."""
        if self.base is None:
            raise ValueError(
                f"{file.path} holds no {component}: name a checkpoint in the Hub's layout that has it, "
                "base=ID_OR_FOLDER"
            )
        return self.checkpoint(self.base())


def assemble(path: Path, aid: Aid) -> tuple[Family, dict[str, Any]]:
    """Build the components of a single file; `aid.loader.fill` reads the weights.

    Args:
        path: The file.
        aid: Sources of what it lacks.

    Returns:
        The components, and the scheduler config that they were published with.

    Raises:
        ValueError: If the layout is unknown, or if a tensor is missing, unexpected or misshaped.
    """
    file = SingleFile(path)
    if file.has(f"{_NETWORK}double_blocks.") or file.has("double_blocks."):
        return _flux(file, aid)
    if not file.has(f"{_NETWORK}input_blocks."):
        first = ", ".join(sorted(file.shapes)[:3])
        raise ValueError(
            f"{path} is not a single-file checkpoint of a known layout (Stable Diffusion 1.x, 2.x, XL, Flux.1); its "
            f"first tensors are {first or 'none'}"
        )
    if file.has(_XL):
        return _stable_diffusion_xl(file, aid)
    return _stable_diffusion(file, aid)


def _stable_diffusion(file: SingleFile, aid: Aid) -> tuple[Family, dict[str, Any]]:
    second = file.has(_OPEN_CLIP)
    if not second and not file.has(_CLIP):
        raise ValueError(
            f"{file.path} holds no text encoder ({_CLIP}* or {_OPEN_CLIP}*); it must be an all-in-one file"
        )
    prefix = _OPEN_CLIP if second else _CLIP
    file.check_read((_NETWORK, *_VAES[:1], prefix, *_ASIDE))
    marked = "v_pred" in file.shapes
    default = None if second else "epsilon"
    prediction = schedulers.prediction_type(aid.prediction, file.metadata, marked, default, str(file.path))
    backbone = unet.load(
        file.section(_NETWORK), None, aid.loader, size=96 if second and prediction == "v_prediction" else 64
    )
    family = StableDiffusion(backbone, _vae(file, aid, _SD_SCALING), _clip(file, aid, prefix, second), aid.dtype)
    return family, schedulers.stable_diffusion(prediction)


def _stable_diffusion_xl(file: SingleFile, aid: Aid) -> tuple[Family, dict[str, Any]]:
    refiner = file.has(f"{_XL}0.model.")
    prefixes = [f"{_XL}0.model."] if refiner else [f"{_XL}0.transformer.", f"{_XL}1.model."]
    file.check_read((_NETWORK, *_VAES[:1], *prefixes, *_ASIDE))
    marked = "v_pred" in file.shapes
    prediction = schedulers.prediction_type(aid.prediction, file.metadata, marked, "epsilon", str(file.path))
    texts = [_clip(file, aid, prefix, prefix.endswith(".model."), projection=True) for prefix in prefixes]
    pooled = texts[-1].encoder.config.projection_dim
    family = StableDiffusionXL(
        unet.load(file.section(_NETWORK), (pooled, 5 if refiner else 6), aid.loader, size=128),
        _vae(file, aid, _XL_SCALING),
        texts,
        aid.dtype,
        zero_negative=not refiner,
        aesthetic=refiner,
    )
    return family, schedulers.stable_diffusion_xl(prediction, "ztsnr" in file.shapes)


def _flux(file: SingleFile, aid: Aid) -> tuple[Family, dict[str, Any]]:
    if aid.prediction is not None:
        raise ValueError(f"prediction={aid.prediction!r}: Flux.1 predicts the flow; leave it out")
    prefix = _NETWORK if file.has(_NETWORK) else ""
    if prefix:
        file.check_read((prefix, *_VAES, _FLUX_CLIP, _FLUX_T5, *_ASIDE))
    backbone = flux.load(file.section(prefix), aid.loader)
    vae = _vae(file, aid, _FLUX_SCALING)
    if file.has(_FLUX_CLIP):
        clip = _clip(file, aid, _FLUX_CLIP, False)
    else:
        clip = ClipText.build(ClipText.prepare(aid.from_base("CLIP text encoder", file), pooled=True))
    if file.has(_FLUX_T5):
        encoder = text.load_t5(file.section(_FLUX_T5), aid.loader)
    else:
        base = aid.from_base("T5 text encoder", file)
        encoder = prepare_encoder(base, "text_encoder_2", "T5EncoderModel").build()
    tokenizer = load_tokenizer(aid.checkpoint(aid.tokenizer()), "tokenizer_2", "T5TokenizerFast")
    check_ids(tokenizer, encoder.config.vocab_size, str(file.path))
    family = Flux(backbone, vae, clip, T5Text(tokenizer, encoder), aid.dtype)
    return family, schedulers.flux(backbone.config.guidance_embeds)


def _vae(file: SingleFile, aid: Aid, scaling: dict[str, Any]) -> Autoencoder:
    prefix = next((prefix for prefix in _VAES if file.has(prefix)), None)
    if prefix is not None:
        return autoencoder.load(file.section(prefix), scaling, aid.loader)
    base = aid.from_base("autoencoder", file)
    return build_autoencoder(base, autoencoder_config(base))


def _clip(file: SingleFile, aid: Aid, prefix: str, open_clip: bool, *, projection: bool = False) -> ClipText:
    section = file.section(prefix)
    tokenizer = _clip_tokenizer(aid.checkpoint(aid.tokenizer()), open_clip)
    if open_clip:
        encoder = text.load_open_clip(section, aid.loader, projection=projection)
    else:
        encoder = text.load_clip(section, aid.loader)
    check_ids(tokenizer, encoder.config.vocab_size, section.label)
    return ClipText(tokenizer, encoder)


def _clip_tokenizer(checkpoint: Checkpoint, open_clip: bool) -> Any:
    """The CLIP tokenizer of a checkpoint, which pads with "!" for OpenCLIP and with the end token otherwise."""
    for folder in ("tokenizer_2", "tokenizer") if open_clip else ("tokenizer",):
        config = checkpoint.path(folder, "tokenizer_config.json")
        if not config.is_file() or not str(checkpoint.json(folder, config.name).get("tokenizer_class")).startswith(
            "CLIP"
        ):
            continue
        settings = {"pad_token": "!"} if open_clip else {}
        tokenizer = load_tokenizer(checkpoint, folder, "CLIPTokenizer", **settings)
        if not open_clip and tokenizer.pad_token != tokenizer.eos_token:
            raise ValueError(
                f"{checkpoint.path(folder)} pads with {tokenizer.pad_token!r}, as for SD 2.x; this text encoder was "
                "trained with the end token: name the tokenizer of an SD 1.x, SDXL or Flux.1 checkpoint"
            )
        return tokenizer
    raise ValueError(f"{checkpoint.root} has no CLIP tokenizer in a folder tokenizer/")
