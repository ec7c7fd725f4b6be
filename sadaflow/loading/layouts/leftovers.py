"""Tensors of single files that no network reads, with the reason."""

from collections.abc import Mapping

_SCHEDULE = "table of the noise schedule, which follows from its betas"
_MARK = "mark of the training method"
_TRAINING = "state of training"

LEFTOVERS: Mapping[str, str] = {
    "model_ema.": "averaged copy of the weights for training",
    "embedding_manager.": "embeddings of textual inversion that no prompt names",
    **dict.fromkeys(("global_step", "iteration", "epoch", "state_dict.global_step"), _TRAINING),
    **dict.fromkeys(("lvlb_weights", "logvar", "scale_factor"), "weights of the training loss"),
    **dict.fromkeys(
        (
            *("betas", "alphas_cumprod", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod", "posterior_"),
            *("log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"),
            *("denoiser.sigmas", "denoiser.log_sigmas"),
        ),
        _SCHEDULE,
    ),
    **dict.fromkeys(("v_pred", "ztsnr"), _MARK),
    "depth_model.": "network that estimates depth, which prepares the depth map of SD 2 depth",
    "text_encoders.t5xxl.spiece_model": "vocabulary of the tokenizer, which is loaded from its own files",
}
"""Beginnings of tensor names."""

ENDINGS: Mapping[str, str] = {
    "position_ids": "numbers 0, 1, 2, ... that follow from the config",
    "logit_scale": "scale of CLIP's similarity, which no prompt uses",
}
"""Endings of tensor names."""


def is_leftover(name: str) -> bool:
    """Whether no network reads the tensor of that name."""
    return name.startswith(tuple(LEFTOVERS)) or name.endswith(tuple(ENDINGS))
