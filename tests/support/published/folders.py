"""The JSON files of published checkpoints, field by field with the published sizes and odd values.

`FOLDERS` maps a model to its files by path, `CONTROLNETS` to its config.json. `scale` makes them small.
"""

from typing import Any

from .networks import (
    EMA,
    FLUX,
    SINCE_10,
    SINCE_12,
    SINCE_24,
    UNET_06,
    UNET_21_BASE,
    UNET_25,
    UNET_REFINER,
    UNET_XL,
    VAE,
    VAE_14,
    VAE_FLUX,
    VAE_XL,
)
from .schedulers import SCHEDULER_FLUX, SCHEDULER_LCM, SCHEDULER_PNDM, SCHEDULER_XL, TURBO, ddim
from .text import (
    BANG,
    CLIP_G,
    CLIP_L,
    CLIP_L_NEW,
    END,
    HOME,
    SD_2_TEXT,
    SPECIAL,
    T5,
    T5_KREA,
    T5_SPECIAL,
    T5_TOKENIZER,
    TOKENIZER,
    TOKENIZER_NEW,
    XL_TOKENIZER,
    clip,
)

Json = dict[str, Any]


def _index(kind: str, version: str, components: str, **fields: Any) -> Json:
    """A model_index.json; `components` are "name=library.Class" separated by blanks, or "name" for an absent one."""
    index: Json = {"_class_name": kind, "_diffusers_version": version, **fields}
    for entry in components.split():
        name, _, cls = entry.partition("=")
        index[name] = cls.split(".") if cls else [None, None]
    return index


_CLIP_PARTS = "text_encoder=transformers.CLIPTextModel tokenizer=transformers.CLIPTokenizer "
_NETS = "unet=diffusers.UNet2DConditionModel vae=diffusers.AutoencoderKL "
_SD_PARTS = _CLIP_PARTS + _NETS
_XL_PARTS = (
    _SD_PARTS + "text_encoder_2=transformers.CLIPTextModelWithProjection tokenizer_2=transformers.CLIPTokenizer "
)
_CHECKER = "safety_checker=stable_diffusion.StableDiffusionSafetyChecker "
_PNDM, _DDIM, _EULER = (f"scheduler=diffusers.{name}Scheduler" for name in ("PNDM", "DDIM", "EulerDiscrete"))


def sd(index: Json, unet: Json, vae: Json, scheduler: Json, **parts: Json) -> dict[str, Json]:
    text = parts.get("encoder", {**CLIP_L, "projection_dim": 768, "transformers_version": "4.22.0.dev0"})
    return {
        "model_index.json": index,
        "unet/config.json": unet,
        "vae/config.json": vae,
        "scheduler/scheduler_config.json": scheduler,
        **clip(text, parts.get("tokenizer", TOKENIZER), parts.get("special", SPECIAL)),
    }


def xl(index: Json, unet: Json, scheduler: Json, first: Json | None, second: Json, **vae: Any) -> dict[str, Json]:
    files = {
        "model_index.json": index,
        "unet/config.json": unet,
        "vae/config.json": {**VAE_XL, **vae},
        "scheduler/scheduler_config.json": scheduler,
        **clip(CLIP_G, second, {**SPECIAL, "pad_token": "!"}, "_2"),
    }
    return files if first is None else {**files, **clip(CLIP_L_NEW, first, SPECIAL)}


def _flux(transformer: Json, scheduler: Json, t5: Json = T5, **tokenizer: Any) -> dict[str, Json]:
    parts = (
        _CLIP_PARTS + "scheduler=diffusers.FlowMatchEulerDiscreteScheduler text_encoder_2=transformers.T5EncoderModel "
        "tokenizer_2=transformers.T5TokenizerFast transformer=diffusers.FluxTransformer2DModel "
        "vae=diffusers.AutoencoderKL"
    )
    encoder = {**CLIP_L_NEW, "torch_dtype": "bfloat16", "transformers_version": "4.43.3"}
    return {
        "model_index.json": _index("FluxPipeline", "0.30.0.dev0", parts),
        "transformer/config.json": transformer,
        "vae/config.json": VAE_FLUX,
        "scheduler/scheduler_config.json": scheduler,
        "text_encoder_2/config.json": t5,
        "tokenizer_2/tokenizer_config.json": {**T5_TOKENIZER, **tokenizer},
        "tokenizer_2/special_tokens_map.json": T5_SPECIAL,
        **clip(encoder, TOKENIZER_NEW, SPECIAL),
    }


_EXTRACTOR = "feature_extractor=transformers.CLIPImageProcessor "
_OLD_EXTRACTOR = "feature_extractor=transformers.CLIPFeatureExtractor "
_NO_EXTRAS = "feature_extractor safety_checker "
_SD, _XL, _REFINER = "StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"

FOLDERS: dict[str, dict[str, Json]] = {
    "sd-1.4": sd(
        _index(_SD, "0.2.2", _SD_PARTS + _EXTRACTOR + _CHECKER + _PNDM),
        {**UNET_06, **SINCE_10, **SINCE_12, "_diffusers_version": "0.12.0.dev0"},
        {**VAE_14, "_diffusers_version": "0.2.2"},
        {**SCHEDULER_PNDM, "_diffusers_version": "0.7.0.dev0"},
        encoder=CLIP_L,
    ),
    "sd-1.5": sd(_index(_SD, "0.6.0", _SD_PARTS + _EXTRACTOR + _CHECKER + _PNDM), UNET_06, VAE, SCHEDULER_PNDM),
    "sd-2.1": sd(
        _index(_SD, "0.8.0", _SD_PARTS + _EXTRACTOR + "safety_checker " + _DDIM, requires_safety_checker=False),
        {**UNET_21_BASE, "sample_size": 96, "upcast_attention": True},
        {**VAE, "_name_or_path": "hf-models/stable-diffusion-v2-768x768/vae", "sample_size": 768},
        ddim("v_prediction", "0.8.0"),
        **SD_2_TEXT,
    ),
    "sd-2.1-base": sd(
        _index(_SD, "0.10.0.dev0", _SD_PARTS + _OLD_EXTRACTOR + "safety_checker " + _PNDM),
        UNET_21_BASE,
        {**VAE, "sample_size": 768},
        {**SCHEDULER_PNDM, "prediction_type": "epsilon"},
        **SD_2_TEXT,
    ),
    "realistic-vision-5.1": sd(
        _index(
            _SD,
            "0.25.0.dev0",
            _SD_PARTS + _OLD_EXTRACTOR + "image_encoder " + _CHECKER + _PNDM,
            requires_safety_checker=True,
        ),
        UNET_25,
        {**VAE, "force_upcast": True, "scaling_factor": 0.18215},
        {**SCHEDULER_PNDM, "prediction_type": "epsilon", "timestep_spacing": "leading"},
        encoder=CLIP_L_NEW,
        tokenizer=TOKENIZER_NEW,
    ),
    "counterfeit-2.5": sd(
        _index(_SD, "0.10.2", _SD_PARTS + _NO_EXTRAS + _DDIM, requires_safety_checker=None),
        {**UNET_06, **SINCE_10, "upcast_attention": False},
        {**VAE, "sample_size": 256},
        ddim("epsilon", "0.10.2"),
        tokenizer={**TOKENIZER, "name_or_path": "CompVis/stable-diffusion-v1-4"},
    ),
    "nitro-diffusion": sd(
        _index(_SD, "0.8.0.dev0", _SD_PARTS + _OLD_EXTRACTOR + _CHECKER + _PNDM),
        {**UNET_06, "_diffusers_version": "0.8.0.dev0"},
        {**VAE, "sample_size": 256},
        SCHEDULER_PNDM,
    ),
    "lcm-dreamshaper-7": sd(
        _index(
            "LatentConsistencyModelPipeline",
            "0.22.0.dev0",
            _SD_PARTS + _OLD_EXTRACTOR + _CHECKER + "scheduler=diffusers.LCMScheduler",
            requires_safety_checker=True,
        ),
        {**UNET_25, "_diffusers_version": "0.22.0.dev0", "time_cond_proj_dim": 256},
        {**VAE, "force_upcast": True, "sample_size": 768, "scaling_factor": 0.18215},
        SCHEDULER_LCM,
        encoder=CLIP_L_NEW,
        tokenizer=TOKENIZER_NEW,
    ),
    # A save of the DreamBooth training script: the training scheduler, averaging leftovers, other machines' paths.
    "dreambooth-sd": sd(
        _index(_SD, "0.21.0", _SD_PARTS + _NO_EXTRAS + "image_encoder scheduler=diffusers.DDPMScheduler"),
        {**UNET_25, **EMA, "_name_or_path": "runwayml/stable-diffusion-v1-5"},
        {**VAE, "force_upcast": True, "scaling_factor": 0.18215},
        {
            **SCHEDULER_PNDM,
            "_class_name": "DDPMScheduler",
            "clip_sample_range": 1.0,
            "dynamic_thresholding_ratio": 0.995,
            "prediction_type": "epsilon",
            "sample_max_value": 1.0,
            "thresholding": False,
            "timestep_spacing": "leading",
            "variance_type": "fixed_small",
        },
        encoder=CLIP_L_NEW,
        tokenizer={**TOKENIZER, "tokenizer_file": HOME},
    ),
    "sdxl-base": xl(
        _index(_XL, "0.19.0.dev0", _XL_PARTS + _EULER, force_zeros_for_empty_prompt=True, add_watermarker=None),
        UNET_XL,
        SCHEDULER_XL,
        XL_TOKENIZER,
        {**XL_TOKENIZER, "pad_token": "!"},
    ),
    "sdxl-turbo": xl(
        _index(
            _XL,
            "0.24.0.dev0",
            _XL_PARTS + "feature_extractor image_encoder scheduler=diffusers.EulerAncestralDiscreteScheduler",
            force_zeros_for_empty_prompt=True,
        ),
        {**UNET_XL, **SINCE_24, "sample_size": 64},
        TURBO,
        {**TOKENIZER_NEW, "pad_token": END},
        {
            **TOKENIZER_NEW,
            "pad_token": "!",
            "added_tokens_decoder": {**BANG, **TOKENIZER_NEW["added_tokens_decoder"]},
        },
    ),
    "sdxl-refiner": xl(
        _index(
            _REFINER,
            "0.19.0.dev0",
            _NETS + "text_encoder tokenizer text_encoder_2=transformers.CLIPTextModelWithProjection "
            "tokenizer_2=transformers.CLIPTokenizer " + _EULER,
            force_zeros_for_empty_prompt=False,
            add_watermarker=None,
            requires_aesthetics_score=True,
        ),
        UNET_REFINER,
        SCHEDULER_XL,
        None,
        {**XL_TOKENIZER, "pad_token": "!"},
    ),
    "dreambooth-sdxl": xl(
        _index(_XL, "0.22.0.dev0", _XL_PARTS + _EULER, force_zeros_for_empty_prompt=True),
        {**UNET_XL, "attention_type": "default", "dropout": 0.0},
        SCHEDULER_XL,
        {**TOKENIZER_NEW, "additional_special_tokens": [], "tokenizer_file": HOME},
        {**TOKENIZER_NEW, "additional_special_tokens": [], "tokenizer_file": HOME, "pad_token": "!"},
    ),
    "flux.1-dev": _flux({**FLUX, "_name_or_path": "../checkpoints/flux-dev/transformer"}, SCHEDULER_FLUX),
    "flux.1-schnell": _flux(
        {**FLUX, "guidance_embeds": False}, {**SCHEDULER_FLUX, "shift": 1.0, "use_dynamic_shifting": False}
    ),
    "flux.1-krea": _flux(
        {**FLUX, "_diffusers_version": "0.35.0.dev0", "axes_dims_rope": [16, 56, 56], "out_channels": None},
        SCHEDULER_FLUX,
        T5_KREA,
        add_prefix_space=True,
        legacy=True,
    ),
}
