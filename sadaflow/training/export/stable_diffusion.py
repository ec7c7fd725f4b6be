"""Writes `tiny-sd` in the Hub's layout of StableDiffusionPipeline, in half precision."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from sadaflow.models import Autoencoder, UNet

from ...files.atomic import write_whole
from ...loading.hub.write import published_keys, write_json
from ...loading.sampling_defaults import FIELD
from ..loops.diffusion import BETA_END, BETA_START, TIMESTEPS, UNET_CONFIG
from ..loops.vae import VAE_CONFIG
from .card import Facts, model_card

LIBRARY_VERSION = "0.32.0"  # version of Diffusers whose file format this is

MODEL_INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": LIBRARY_VERSION,
    FIELD: {"guidance": 5.0, "solver": "dpmpp2m", "steps": 50},
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

SCHEDULER_CONFIG: dict[str, Any] = {
    "_class_name": "DPMSolverMultistepScheduler",
    "_diffusers_version": LIBRARY_VERSION,
    "algorithm_type": "dpmsolver++",
    "beta_end": BETA_END,
    "beta_schedule": "scaled_linear",
    "beta_start": BETA_START,
    "dynamic_thresholding_ratio": 0.995,
    "euler_at_final": False,
    "final_sigmas_type": "zero",
    "lower_order_final": True,
    "num_train_timesteps": TIMESTEPS,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": False,
    "sample_max_value": 1.0,
    "solver_order": 2,
    "solver_type": "midpoint",
    "steps_offset": 1,
    "thresholding": False,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}


def write_checkpoint(folder: Path, unet: UNet, vae: Autoencoder, text: Any, tokenizer: Path, facts: Facts) -> None:
    """Writes all files of the checkpoint; each is complete or absent.

    Args:
        folder: Folder of the checkpoint.
        unet: The U-Net.
        vae: The autoencoder.
        text: The text encoder, a transformers CLIPTextModel.
        tokenizer: Folder of the tokenizer.
        facts: What the model card says about the training.
    """
    write_json(folder / "model_index.json", MODEL_INDEX)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER_CONFIG)
    version = {"_diffusers_version": LIBRARY_VERSION}
    write_json(folder / "unet" / "config.json", {**UNET_CONFIG, **version})
    write_json(folder / "vae" / "config.json", {**VAE_CONFIG, **version, "scaling_factor": vae.config.scaling_factor})
    config = {**text.config.to_dict(), "architectures": ["CLIPTextModel"], "dtype": "float16", "torch_dtype": "float16"}
    write_json(folder / "text_encoder" / "config.json", config)
    write_tensors(folder / "unet" / "diffusion_pytorch_model.safetensors", unet.state_dict())
    write_tensors(folder / "vae" / "diffusion_pytorch_model.safetensors", vae.state_dict())
    write_tensors(folder / "text_encoder" / "model.safetensors", published_keys(text.state_dict()))
    (folder / "tokenizer").mkdir(exist_ok=True)
    for source in tokenizer.iterdir():
        shutil.copyfile(source, folder / "tokenizer" / source.name)
    (folder / "README.md").write_text(model_card(facts), encoding="utf-8")


def write_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Writes a state dict in half precision as safetensors."""
    halves = {name: tensor.to(torch.float16).contiguous() for name, tensor in state.items()}
    write_whole(path, lambda file: file.write(save(halves, {"format": "pt"})), overwrite=True)
