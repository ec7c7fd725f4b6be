"""Errors for unknown arguments that say what to write, also for calls that were written for Diffusers."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import wraps
from types import MappingProxyType
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_CALLBACK = "here observer= is called with a Step after every step, and trace=True keeps the trajectory"

RENAMED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "num_inference_steps": "steps",
        "guidance_scale": "guidance",
        "true_cfg_scale": "true_guidance",
        "output_type": "output",
        "controlnet_conditioning_scale": "control_scale",
        "control_guidance_start": "control_start",
        "control_guidance_end": "control_end",
        "control_image": "control",
        "audio_length_in_s": "seconds",
        "crops_coords_top_left": "crop",
        "negative_crops_coords_top_left": "negative_crop",
        "mask_image": "mask",
        "pooled_prompt_embeds": "pooled_embeds",
        "negative_prompt_embeds": "negative_embeds",
        "negative_pooled_prompt_embeds": "negative_pooled_embeds",
        "image_guidance_scale": "image_guidance",
        "torch_dtype": "dtype",
        "pretrained_model_name_or_path": "model",
        "pretrained_model_link_or_path": "file",
        "pretrained_model_link_or_path_or_dict": "file",
        "config": "base",
        "prediction_type": "prediction",
        "use_auth_token": "token",
        "lora_scale": "scale",
        "adapter_name": "name",
        "adapter_names": "names",
        "adapter_weights": "weights",
    }
)
"""Arguments of Diffusers that have another name here."""

EXPLAINED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "generator": "here it is seed=, a whole number or one for each prompt",
        "latents": "here it is noise=, unit normal, (B, C, h, w)",
        "num_images_per_prompt": "repeat the prompt instead: prompt=[text] * 4, seed=[0, 1, 2, 3]",
        "num_waveforms_per_prompt": "repeat the prompt instead: prompt=[text] * 4, seed=[0, 1, 2, 3]",
        "ip_adapter_image": "IP-Adapters are not supported",
        "ip_adapter_image_embeds": "IP-Adapters are not supported",
        "callback": _CALLBACK,
        "callback_steps": _CALLBACK,
        "callback_on_step_end": _CALLBACK,
        "callback_on_step_end_tensor_inputs": _CALLBACK,
        "timesteps": "here it is grid=, a Grid or the name of a spacing",
        "sigmas": "here it is grid=, a Grid or the name of a spacing",
        "eta": "it belongs to the solver: solver=make_solver(name, grid, eta=...)",
        "prompt_2": "all text encoders read prompt=",
        "prompt_3": "all text encoders read prompt=",
        "negative_prompt_2": "all text encoders read negative_prompt=",
        "negative_prompt_3": "all text encoders read negative_prompt=",
        "prompt_attention_mask": "give prompt_embeds= as a list, for each sample the states that are attended to",
        "negative_prompt_attention_mask": "give negative_embeds= as a list, as prompt_embeds=",
        "clip_skip": "the text encoder's layer is the one that the checkpoint was trained with",
        "guess_mode": "it is not supported",
        "masked_image_latents": "here it is image= and mask=",
        "blur_factor": "here it is mask_blur=",
        "cross_attention_kwargs": "the scale of a LoRA is load_lora(..., scale=)",
        "joint_attention_kwargs": "the scale of a LoRA is load_lora(..., scale=)",
        "attention_kwargs": "the scale of a LoRA is load_lora(..., scale=)",
        "return_dict": "a call always returns an Output",
        "use_safetensors": "weights are always read from safetensors: leave it out",
        "low_cpu_mem_usage": "weights are always loaded without a second copy: leave it out",
        "safety_checker": "there is none: leave it out",
        "requires_safety_checker": "there is none: leave it out",
        "load_safety_checker": "there is none: leave it out",
        "feature_extractor": "there is none: leave it out",
        "image_encoder": "there is none: leave it out",
        "scheduler": "name a solver in the call: solver=, grid=",
        "vae": "it is chosen when the pipeline is loaded: vae= of from_pretrained and from_single_file",
        "unet": "components are read from the checkpoint: assemble a folder with the one that you want",
        "transformer": "components are read from the checkpoint: assemble a folder with the one that you want",
        "text_encoder": "components are read from the checkpoint; a part that a single file lacks comes from base=",
        "text_encoder_2": "components are read from the checkpoint; a part that a single file lacks comes from base=",
        "tokenizer": "it is read from the checkpoint",
        "tokenizer_2": "it is read from the checkpoint",
        "device_map": "here it is device=, and offload= for what does not fit",
        "max_memory": "here it is device=, and offload= for what does not fit",
        "offload_folder": "here it is offload=",
        "offload_state_dict": "here it is offload=",
        "quantization_config": 'here it is quantize="int8" or "fp8"',
        "custom_pipeline": "code from checkpoints is never run",
        "custom_revision": "code from checkpoints is never run",
        "trust_remote_code": "code from checkpoints is never run",
        "original_config": "the configuration is inferred from the tensors: leave it out",
        "original_config_file": "the configuration is inferred from the tensors: leave it out",
        "subfolder": "name the folder itself",
        "force_download": "damaged files are fetched again without it; cache_dir= names another cache",
        "resume_download": "downloads are always resumed: leave it out",
        "proxies": "set HTTPS_PROXY in the environment",
    }
)
"""Arguments of Diffusers that have another form here, or no counterpart: what to write."""


class UnknownArgument(TypeError, ValueError):
    """An argument that the function does not have: a TypeError as in Python, and a ValueError as any bad input."""


def refuses_unknown(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that unknown keyword arguments raise `UnknownArgument`, which says what to write."""
    known = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                raise UnknownArgument(f"{function.__qualname__}() has no argument {name}=: {remedy(name, known)}")
        return function(*args, **kwargs)

    return checked


def remedy(name: str, known: list[str]) -> str:
    """What to write in place of an unknown argument.

    Args:
        name: The argument.
        known: The arguments of the function.
    """
    if (renamed := RENAMED.get(name)) in known:
        return f"here it is {renamed}="
    if name in EXPLAINED:
        return EXPLAINED[name]
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}=?" if close else f"it has {', '.join(f'{argument}=' for argument in known)}"
