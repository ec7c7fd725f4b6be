"""Configs of published architectures in the Hub's layout, at full size or with channels and layers divided."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...loading.single_file import schedulers

Config = Mapping[str, Any]

_NAME: Final = re.compile(r"random-(sd21|sdxl|flux|wan)(?:/([1-9][0-9]?))?")
_LEVELS: Final = ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "steps_offset", "prediction_type")
_HEADS: Final = {"sd21": (5, 10, 20, 20), "sdxl": (5, 10, 20)}


@dataclass(frozen=True)
class Architecture:
    """A checkpoint without its weights.

    Attributes:
        pipeline: Class of the pipeline in Diffusers.
        size: Height and width of pictures, in pixels.
        components: Configs of the networks, by folder.
        text: Configs of the text encoders, by folder. They have two layers of the published width, because the backbone
            is what is timed.
        scheduler: Config of the scheduler.
    """

    pipeline: str
    size: int
    components: Mapping[str, Config]
    text: Mapping[str, Config]
    scheduler: Config


def is_random(model: str) -> bool:
    """Returns whether `model` is the name of an architecture with random weights."""
    return model.startswith("random-")


def architecture(name: str) -> Architecture:
    """Returns the architecture of a name.

    Args:
        name: "random-sd21" (Stable Diffusion 2.1), "random-sdxl", "random-flux" (Flux.1 dev) or "random-wan" (Wan 2.1
            T2V 1.3B). "random-flux/4" has a quarter of the channels, the layers and the default size in pixels; the
            default size of video is not divided.

    Raises:
        ValueError: If the name is unknown, or the widths cannot be divided by the number.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(
            f"unknown random checkpoint {name!r}; known: random-sd21, random-sdxl, random-flux and random-wan, at full "
            "size or divided as in random-sd21/2"
        )
    model, part = found[1], int(found[2] or 1)
    makers = {"sd21": _sd21, "sdxl": _sdxl, "flux": _flux, "wan": _wan}
    if 16 % part:
        raise ValueError(f"{name!r}: the widths can be divided by 1, 2, 4, 8 and 16")
    return makers[model](part)


def _sd21(part: int) -> Architecture:
    unet = _unet("sd21", part) | {
        "sample_size": 96 // part,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "cross_attention_dim": 1024 // part,
    }
    text = {"text_encoder": _clip(1024 // part, 16)}
    vae = _vae(part, 768, scaling_factor=0.18215)
    scheduler = _leading("DPMSolverMultistepScheduler", schedulers.stable_diffusion("v_prediction"))
    return Architecture("StableDiffusionPipeline", 768 // part, {"unet": unet, "vae": vae}, text, scheduler)


def _sdxl(part: int) -> Architecture:
    pooled, ids = 1280 // part, 256 // part
    unet = _unet("sdxl", part) | {
        "sample_size": 128 // part,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, _fewer(2, part), _fewer(10, part)],
        "cross_attention_dim": 2048 // part,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": ids,
        "projection_class_embeddings_input_dim": pooled + 6 * ids,
    }
    text = {
        "text_encoder": _clip(768 // part, 12),
        "text_encoder_2": _clip(1280 // part, 20) | {"projection_dim": pooled},
    }
    vae = _vae(part, 1024, scaling_factor=0.13025, force_upcast=True)
    scheduler = _leading("EulerDiscreteScheduler", schedulers.stable_diffusion_xl("epsilon", zero_snr=False))
    return Architecture("StableDiffusionXLPipeline", 1024 // part, {"unet": unet, "vae": vae}, text, scheduler)


def _flux(part: int) -> Architecture:
    width = 4096 // part
    transformer = {
        "in_channels": 64,
        "num_layers": _fewer(19, part),
        "num_single_layers": _fewer(38, part),
        "attention_head_dim": 128,
        "num_attention_heads": _fewer(24, part),
        "joint_attention_dim": width,
        "pooled_projection_dim": 768 // part,
        "guidance_embeds": True,
        "axes_dims_rope": [16, 56, 56],
    }
    vae = _vae(part, 1024, 16, scaling_factor=0.3611, shift_factor=0.1159)
    vae |= {"use_quant_conv": False, "use_post_quant_conv": False}
    text = {"text_encoder": _clip(768 // part, 12), "text_encoder_2": _t5(width)}
    components = {"transformer": transformer, "vae": vae}
    return Architecture("FluxPipeline", 1024 // part, components, text, schedulers.flux(guidance_embeds=True))


def _wan(part: int) -> Architecture:
    width = 4096 // part
    transformer: dict[str, Any] = {
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": _fewer(30, part),
        "attention_head_dim": 128,
        "num_attention_heads": _fewer(12, part),
        "ffn_dim": 8960 // part,
        "freq_dim": 256,
        "text_dim": width,
    }
    vae: dict[str, Any] = {
        "base_dim": 96 // part,
        "z_dim": 16,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": _fewer(2, part),
        "temperal_downsample": [False, True, True],
        "latents_mean": [0.0] * 16,
        "latents_std": [2.0] * 16,
    }
    text: dict[str, Any] = {"model_type": "umt5", **_t5(width)}
    scheduler = {
        "_class_name": "UniPCMultistepScheduler",
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "flow_shift": 3.0,
    }
    components = {"transformer": transformer, "vae": vae}
    return Architecture("WanPipeline", 832, components, {"text_encoder": text}, scheduler)


def _t5(width: int) -> dict[str, Any]:
    return {
        "d_model": width,
        "d_kv": 64,
        "d_ff": 2 * width,
        "num_layers": 2,
        "num_heads": max(1, width // 64),
        "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": False,
        "use_cache": False,
    }


def _leading(scheduler: str, published: Config) -> dict[str, Any]:
    """Config of a Diffusers scheduler on the noise levels of a published model, with "leading" timesteps."""
    levels = {name: published[name] for name in _LEVELS}
    return {"_class_name": scheduler, **levels, "timestep_spacing": "leading"}


def _unet(model: str, part: int) -> dict[str, Any]:
    """Returns what both U-Nets share. Division makes heads narrower and keeps their number."""
    heads = _HEADS[model]
    widths = [64 * count // part for count in heads]
    return {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": widths,
        "layers_per_block": _fewer(2, part),
        "attention_head_dim": list(heads),
        "norm_num_groups": math.gcd(32, *widths),
        "use_linear_projection": True,
    }


def _vae(part: int, size: int, latents: int = 4, **further: Any) -> dict[str, Any]:
    widths = [width // part for width in (128, 256, 512, 512)]
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": latents,
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": _fewer(2, part),
        "norm_num_groups": math.gcd(32, *widths),
        "sample_size": size // part,
        **further,
    }


def _clip(width: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "max_position_embeddings": 77,
    }


def _fewer(count: int, part: int) -> int:
    return max(1, count // part)
