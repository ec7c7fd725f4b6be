"""Scheduler configs of the published models, for single files, which do not contain any."""

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
_XL = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading", **_BETAS}
_FLUX = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}
_FLUX_SHIFT = {
    "use_dynamic_shifting": True,
    "shift": 3.0,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}


def prediction_type(given: str | None, metadata: dict[str, str], marked_v: bool, default: str | None, file: str) -> str:
    """What the network predicts: "epsilon", "v_prediction" or "sample".

    Args:
        given: The user's choice, which takes precedence.
        metadata: Metadata of the file, which may name it.
        marked_v: Whether the file contains a tensor named "v_pred".
        default: Prediction of the published model; None if there are models of both.
        file: The file, for errors.

    Raises:
        ValueError: If `given` is unknown, or if nothing determines the prediction.
    """
    if given is not None and given not in _PREDICTIONS:
        raise ValueError(f"prediction={given!r} is unknown; known: {', '.join(_PREDICTIONS)}")
    noted = _SPEC.get(metadata.get("modelspec.prediction_type", ""))
    found = given or noted or ("v_prediction" if marked_v else default)
    if found is None:
        raise ValueError(
            f"{file} is a Stable Diffusion 2.x, whose weights do not show what they predict: pass "
            "prediction='v_prediction' (the models of 768 pixels) or prediction='epsilon' (base, 512 pixels)"
        )
    return found


def stable_diffusion(prediction: str) -> dict[str, Any]:
    """The config of SD 1.x and 2.x; models of v-prediction were published with another solver."""
    if prediction == "v_prediction":
        return {**_BETAS, "_class_name": "DDIMScheduler", "prediction_type": prediction}
    return {**_STABLE_DIFFUSION, "prediction_type": prediction}


def stable_diffusion_xl(prediction: str, zero_snr: bool) -> dict[str, Any]:
    """The config of SDXL; `zero_snr` if it was trained from pure noise (zero terminal SNR)."""
    return {**_XL, "prediction_type": prediction, **({"rescale_betas_zero_snr": True} if zero_snr else {})}


def flux(guidance_embeds: bool) -> dict[str, Any]:
    """The config of Flux.1: dev, which embeds guidance and shifts the schedule with the size, or schnell."""
    return {**_FLUX, **(_FLUX_SHIFT if guidance_embeds else {"use_dynamic_shifting": False, "shift": 1.0})}
