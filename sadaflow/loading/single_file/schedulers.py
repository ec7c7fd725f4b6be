"""Scheduler configs of the published models, for single files, which do not contain any."""

import re
from collections.abc import Container, Mapping
from typing import Any

_PREDICTIONS = ("epsilon", "v_prediction", "sample")
_SPEC = {"epsilon": "epsilon", "eps": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}
_BETAS = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
_STABLE_DIFFUSION = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, **_BETAS}
_EULER = "EulerDiscreteScheduler"
# Sampler that distilled models of XL were published with, by the word in their names.
_FEW_STEPS = {"turbo": "EulerAncestralDiscreteScheduler", "lightning": _EULER}
_XL = {"_class_name": _EULER, "timestep_spacing": "leading", **_BETAS}
_FLUX = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}
_FLUX_SHIFT = {
    "use_dynamic_shifting": True,
    "shift": 3.0,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}


def noted_prediction(given: str | None, metadata: Mapping[str, str], marks: Container[str]) -> str | None:
    """What the network predicts, if the user or the file says so: "epsilon", "v_prediction" or "sample".

    Args:
        given: The user's choice, which takes precedence.
        metadata: Metadata of the file, which may name it.
        marks: Names of tensors that mark the method of training.

    Raises:
        ValueError: If `given` is unknown.
    """
    if given is not None and given not in _PREDICTIONS:
        raise ValueError(f"prediction={given!r} is unknown; known: {', '.join(_PREDICTIONS)}")
    noted = _SPEC.get(metadata.get("modelspec.prediction_type", ""))
    return given or noted or ("v_prediction" if "v_pred" in marks else None)


def few_steps(stem: str, metadata: Mapping[str, str]) -> str | None:
    """The kind of distillation for few steps that a file's name or metadata says: "turbo", "lightning", or None.

    The weights do not show it.
    """
    return next((kind for kind in _FEW_STEPS if says(kind, stem, metadata)), None)


def says(word: str, stem: str, metadata: Mapping[str, str]) -> bool:
    """Whether a file's name or metadata has a word, also as a part of aNameLikeThis."""
    words = " ".join((stem, *(metadata.get(f"modelspec.{field}", "") for field in ("architecture", "title"))))
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", words).lower()
    return re.search(rf"(?<![a-z]){word}(?![a-z])", words) is not None


def stable_diffusion(prediction: str, distilled: str | None = None) -> dict[str, Any]:
    """The config of SD 1.x and 2.x; models of v-prediction were published with another solver.

    Args:
        prediction: What the network predicts.
        distilled: See `few_steps`.
    """
    if distilled is not None:
        return {**_BETAS, "_class_name": _EULER, "prediction_type": prediction, "timestep_spacing": "trailing"}
    if prediction == "v_prediction":
        return {**_BETAS, "_class_name": "DDIMScheduler", "prediction_type": prediction}
    return {**_STABLE_DIFFUSION, "prediction_type": prediction}


def stable_diffusion_xl(prediction: str, zero_snr: bool, distilled: str | None = None) -> dict[str, Any]:
    """The config of SDXL.

    Args:
        prediction: What the network predicts.
        zero_snr: Whether it was trained from pure noise (zero terminal SNR). It is then sampled from the last timestep
            on (Lin et al. 2023, arXiv 2305.08891, section 3.3).
        distilled: See `few_steps`.
    """
    config = {**_XL, "prediction_type": prediction}
    if distilled is not None:
        config |= {"_class_name": _FEW_STEPS[distilled], "timestep_spacing": "trailing"}
    return config | ({"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if zero_snr else {})


def flux(guidance_embeds: bool) -> dict[str, Any]:
    """The config of Flux.1: dev, which embeds guidance and shifts the schedule with the size, or schnell."""
    return {**_FLUX, **(_FLUX_SHIFT if guidance_embeds else {"use_dynamic_shifting": False, "shift": 1.0})}
