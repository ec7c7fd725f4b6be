"""Writes a loaded pipeline as a folder in the Hub's layout, which Diffusers loads."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from sadaflow.models.tiny_autoencoder import TinyVae

from ..families import REGISTRY
from ..families.exported import Exported
from ..loading.export import new_folder
from ..loading.hub.write import published_keys, write_json
from .sampler import Sampler

_VERSION = "0.42.0"  # of the layout that is written
_ADDED = ("sigmas_from_table",)  # what families add to a scheduler config when they load it, unknown to Diffusers


def export_pipeline(pipe: Sampler, folder: str | os.PathLike[str]) -> Path:
    """Write a pipeline to a new folder in the layout of the Hub, as Diffusers loads it.

    Weights are written as they are in memory: with merged LoRAs, in the pipeline's dtype. ControlNets are left out.

    Args:
        pipe: The pipeline, whose weights are in memory, neither quantized nor offloaded.
        folder: Folder to create; missing parent folders are created too.

    Returns:
        The folder.

    Raises:
        ValueError: If the pipeline is of a family that is not written.
        FileExistsError: If `folder` exists.
    """
    family = pipe.family
    describe = getattr(family, "exported", None)
    own = type(family) in REGISTRY.built_in.values()  # Diffusers knows no class that is registered
    if describe is None or not own:
        known = sorted({found.__name__ for found in REGISTRY.built_in.values() if hasattr(found, "exported")})
        raise ValueError(f"{type(family).__name__} pipelines are not exported; supported: {', '.join(known)}")
    described: Exported | None = describe()
    if described is None:
        reads = getattr(family, "needs", None) or "it reads a depth map"
        raise ValueError(f"{pipe.name} is not exported: {reads}, and a folder would need more than the networks")
    if isinstance(family.vae, TinyVae):
        raise ValueError(f"{pipe.name} is not exported with a tiny autoencoder: load it without vae=")
    networks = dict(family.adaptable)
    if "vae" in family.networks:  # networks that sample pixels have none
        networks["vae"] = family.vae
    with new_folder(folder) as draft:
        index: dict[str, Any] = {"_class_name": described.class_name, "_diffusers_version": _VERSION}
        index |= described.fields
        index["scheduler"] = ["diffusers", pipe.scheduler_config["_class_name"]]
        scheduler = {name: value for name, value in pipe.scheduler_config.items() if name not in _ADDED}
        write_json(draft / "scheduler" / "scheduler_config.json", scheduler)
        for name, network in networks.items():
            if name.startswith("text_encoder"):
                index[name] = ["transformers", _write_encoder(draft / name, network)]
            else:
                config = described.configs.get(name) or network.config.to_dict()  # type: ignore[union-attr,operator]
                index[name] = ["diffusers", _write_network(draft / name, network, config)]
        for name, tokenizer in described.tokenizers.items():
            tokenizer.save_pretrained(draft / name)
            _forget_origin(draft / name / "tokenizer_config.json")
            index[name] = ["transformers", type(tokenizer).__name__]
        write_json(draft / "model_index.json", index)
    return Path(folder)


def _write_network(folder: Path, network: Any, config: Mapping[str, Any]) -> str:
    """Write a network's config and weights; returns its class."""
    write_json(folder / "config.json", config)
    _save(network.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return str(config["_class_name"])


def _write_encoder(folder: Path, encoder: Any) -> str:
    """Write a text encoder's config and weights under the published names; returns its class."""
    name = type(encoder).__name__
    config = {**json.loads(encoder.config.to_json_string()), "architectures": [name]}
    config.pop("_name_or_path", None)
    write_json(folder / "config.json", config)
    state = dict(_untied(encoder.state_dict()))
    if name.startswith("CLIP"):
        top = {key: tensor for key, tensor in state.items() if key.startswith("text_projection.")}
        state = {**published_keys({key: x for key, x in state.items() if key not in top}), **top}
    _save(state, folder / "model.safetensors")
    return name


def _untied(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state, of several that share memory only the first."""
    seen: set[int] = set()
    for name, tensor in sorted(state.items(), key=lambda entry: (len(entry[0]), entry[0])):
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            yield name, tensor


def _save(state: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, path, {"format": "pt"})


def _forget_origin(path: Path) -> None:
    """Remove the path that a tokenizer was read from out of its settings."""
    if path.is_file():
        settings = json.loads(path.read_text("utf-8"))
        write_json(path, {name: value for name, value in settings.items() if name not in ("name_or_path", "is_local")})
