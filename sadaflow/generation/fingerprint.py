"""Digests that differ for other weights or prompts."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from torch import nn

from ..pipeline.pipeline import Pipeline
from .prompt_file import FURTHER, Prompt


def fingerprint(modules: Iterable[nn.Module]) -> str:
    """SHA-256, in hexadecimal digits, of the names and up to 64 values of every tensor of the modules."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            few = tensor.flatten()[:: max(1, tensor.numel() // 64)]
            digest.update(name.encode() + few.double().cpu().numpy().tobytes())
    return digest.hexdigest()


def prompts_digest(prompts: Iterable[Prompt]) -> str:
    """SHA-256 of all prompts with their seeds, names and order."""
    digest = hashlib.sha256()
    for prompt in prompts:
        fields = {name: value for name, value in asdict(prompt).items() if value is not None or name not in FURTHER}
        digest.update(json.dumps(fields).encode() + b"\n")
    return digest.hexdigest()


def weights_digest(pipe: Pipeline) -> str:
    """The `fingerprint` of all networks of a pipeline, merged LoRAs and textual inversions included."""
    family = pipe.family
    parts: list[Any] = [family.backbone, family.vae, *family.adaptable.values(), *vars(family).values()]
    weights = fingerprint(dict.fromkeys(part for part in parts if isinstance(part, nn.Module)))
    digest = hashlib.sha256(weights.encode())
    for encoder in getattr(family, "prompt_encoders", {}).values():
        for token, vectors in encoder.added.vectors.items():
            digest.update(token.encode() + vectors.numpy().tobytes())
    return digest.hexdigest() if pipe.embeddings else weights
