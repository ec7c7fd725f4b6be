"""Scheduler configs of the published models: a single file holds none."""

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
    """What the network predicts: as `given`, else as the file says (in its metadata, or `marked_v` by a tensor named
    so), else the `default` of its kind. Raises ValueError where nothing tells.
    """
    if given is not None and given not in _PREDICTIONS:
        raise ValueError(f"prediction={given!r} is unknown; known: {', '.join(_PREDICTIONS)}")
    noted = _SPEC.get(metadata.get("modelspec.prediction_type", ""))
    found = given or noted or ("v_prediction" if marked_v else default)
    if found is None:
        raise ValueError(
            f"{file} is a Stable Diffusion 2.x, whose weights do not tell what they predict: give "
            "prediction='v_prediction' (the models of 768 pixels) or prediction='epsilon' (base, 512 pixels)"
        )
    return found


def stable_diffusion(prediction: str) -> dict[str, Any]:
    """SD 1.x and 2.x; those of v-prediction were published with another solver."""
    if prediction == "v_prediction":
        return {**_BETAS, "_class_name": "DDIMScheduler", "prediction_type": prediction}
    return {**_STABLE_DIFFUSION, "prediction_type": prediction}


def stable_diffusion_xl(prediction: str, zero_snr: bool) -> dict[str, Any]:
    """SDXL; `zero_snr` where training began at pure noise."""
    return {**_XL, "prediction_type": prediction, **({"rescale_betas_zero_snr": True} if zero_snr else {})}


def flux(guidance_embeds: bool) -> dict[str, Any]:
    """Flux.1 dev, which embeds guidance and shifts with the size, or schnell."""
    return {**_FLUX, **(_FLUX_SHIFT if guidance_embeds else {"use_dynamic_shifting": False, "shift": 1.0})}
