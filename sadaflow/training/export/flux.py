"""Writes `tiny-flux` in the Hub's layout of FluxPipeline, in half precision."""

import json
import shutil
from pathlib import Path
from typing import Any

from torch import nn

from ...loading.hub.write import write_json
from ...loading.sampling_defaults import FIELD
from ..loops.flow import TRANSFORMER_CONFIG
from .stable_diffusion import LIBRARY_VERSION, write_tensors

SIZE = 64
GUIDANCE = 3.5

MODEL_INDEX: dict[str, Any] = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": LIBRARY_VERSION,
    FIELD: {"guidance": GUIDANCE, "solver": "euler", "steps": 50},
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

SCHEDULER_CONFIG: dict[str, Any] = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "_diffusers_version": LIBRARY_VERSION,
    "base_image_seq_len": (SIZE // 8) ** 2,
    "base_shift": 0.5,
    "max_image_seq_len": (SIZE // 2) ** 2,
    "max_shift": 1.15,
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "use_dynamic_shifting": True,
}


def write_flux_checkpoint(folder: Path, models: nn.ModuleDict, shared: Path, tokenizer_2: Path, card: str) -> None:
    """Writes all files of the checkpoint; each is complete or absent.

    Args:
        folder: Folder of the checkpoint.
        models: The networks "transformer" and "t5".
        shared: Checkpoint from which autoencoder, CLIP text encoder and its tokenizer are copied.
        tokenizer_2: Folder of the T5 tokenizer.
        card: Text of the model card.
    """
    write_json(folder / "model_index.json", MODEL_INDEX)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER_CONFIG)
    version = {"_diffusers_version": LIBRARY_VERSION}
    write_json(folder / "transformer" / "config.json", {**TRANSFORMER_CONFIG, **version})
    write_tensors(folder / "transformer" / "diffusion_pytorch_model.safetensors", models["transformer"].state_dict())
    t5: Any = models["t5"]
    config = {**t5.config.to_dict(), "architectures": ["T5EncoderModel"], "dtype": "float16", "torch_dtype": "float16"}
    write_json(folder / "text_encoder_2" / "config.json", config)
    state = {name: tensor for name, tensor in t5.state_dict().items() if name != "encoder.embed_tokens.weight"}
    write_tensors(folder / "text_encoder_2" / "model.safetensors", state)
    for component, source in (
        ("vae", shared / "vae"),
        ("text_encoder", shared / "text_encoder"),
        ("tokenizer", shared / "tokenizer"),
        ("tokenizer_2", tokenizer_2),
    ):
        (folder / component).mkdir(exist_ok=True)
        for file in source.iterdir():
            shutil.copyfile(file, folder / component / file.name)
    vae = json.loads((shared / "vae" / "config.json").read_text())
    write_json(folder / "vae" / "config.json", {**vae, "sample_size": SIZE, "shift_factor": 0.0})
    (folder / "README.md").write_text(card, encoding="utf-8")
