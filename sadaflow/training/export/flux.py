"""Writes `tiny-flux` in the Hub layout of FluxPipeline, in half precision."""

import shutil
from pathlib import Path
from typing import Any

from torch import nn

from ...loading.embedded import is_embedded
from ...loading.hub.write import write_json
from ...loading.sampling_defaults import FIELD, SHARED
from ..loops.flow import TRANSFORMER_CONFIG
from .stable_diffusion import LIBRARY_VERSION, write_tensors

SIZE = 64
GUIDANCE = 3.5
SHARED_COMPONENTS = ("text_encoder", "tokenizer", "vae")
"""Components of tiny-sd, which the training does not change."""

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
    """Write all files of the checkpoint, each one completely or not at all.

    Args:
        folder: Folder to write to.
        models: The trained "transformer" and "t5".
        shared: Folder of the checkpoint that has the autoencoder, the CLIP text encoder and its tokenizer. They are
            copied, unless both folders are embedded checkpoints: then model_index.json refers to them.
        tokenizer_2: Folder of the tokenizer of T5.
        card: Text of README.md.
    """
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER_CONFIG)
    version = {"_diffusers_version": LIBRARY_VERSION}
    write_json(folder / "transformer" / "config.json", {**TRANSFORMER_CONFIG, **version})
    write_tensors(folder / "transformer" / "diffusion_pytorch_model.safetensors", models["transformer"].state_dict())
    t5: Any = models["t5"]
    config = {**t5.config.to_dict(), "architectures": ["T5EncoderModel"], "dtype": "float16", "torch_dtype": "float16"}
    write_json(folder / "text_encoder_2" / "config.json", config)
    state = {name: tensor for name, tensor in t5.state_dict().items() if name != "encoder.embed_tokens.weight"}
    write_tensors(folder / "text_encoder_2" / "model.safetensors", state)
    shutil.copytree(tokenizer_2, folder / "tokenizer_2", dirs_exist_ok=True)
    if is_embedded(folder) and is_embedded(shared):
        write_json(folder / "model_index.json", index_with_references(shared.name))
    else:
        for component in SHARED_COMPONENTS:
            shutil.copytree(shared / component, folder / component, dirs_exist_ok=True)
        write_json(folder / "model_index.json", MODEL_INDEX)
    (folder / "README.md").write_text(card, encoding="utf-8")


def index_with_references(shared: str) -> dict[str, Any]:
    """The model_index.json that takes the frozen components from the embedded checkpoint named `shared`."""
    references = {component: f"{shared}/{component}" for component in SHARED_COMPONENTS}
    return {**MODEL_INDEX, FIELD: {**MODEL_INDEX[FIELD], SHARED: references}}
