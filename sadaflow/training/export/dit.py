"""Writes `tiny-dit` in the Hub layout of DiTPipeline, in half precision."""

from pathlib import Path
from typing import Any

from sadaflow.models import Autoencoder, DiT

from ...loading.hub.write import write_json
from ...loading.sampling_defaults import FIELD
from ..data.scenes import CLASSES
from ..loops.labelled_flow import GUIDANCE, SHIFT, STEPS, TRANSFORMER_CONFIG
from .stable_diffusion import LIBRARY_VERSION, write_tensors

MODEL_INDEX: dict[str, Any] = {
    "_class_name": "DiTPipeline",
    "_diffusers_version": LIBRARY_VERSION,
    FIELD: {"guidance": GUIDANCE, "solver": "euler", "steps": STEPS},
    "id2label": {str(label): name for label, name in enumerate(CLASSES)},
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "transformer": ["diffusers", "DiTTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

SCHEDULER_CONFIG: dict[str, Any] = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "_diffusers_version": LIBRARY_VERSION,
    "num_train_timesteps": 1000,
    "shift": SHIFT,
    "use_dynamic_shifting": False,
}


def write_dit_checkpoint(folder: Path, net: DiT, vae: Autoencoder, card: str) -> None:
    """Writes all files of the checkpoint, each one completely or not at all.

    Args:
        folder: Folder to write to.
        net: The trained transformer.
        vae: The autoencoder.
        card: Text of README.md.
    """
    version = {"_diffusers_version": LIBRARY_VERSION}
    write_json(folder / "model_index.json", MODEL_INDEX)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER_CONFIG)
    write_json(folder / "transformer" / "config.json", {**TRANSFORMER_CONFIG, **version})
    write_json(folder / "vae" / "config.json", {**vae.config.to_dict(), **version})
    for name, part in (("transformer", net), ("vae", vae)):
        write_tensors(folder / name / "diffusion_pytorch_model.safetensors", part.state_dict())
    (folder / "README.md").write_text(card, encoding="utf-8")
