"""Folders in the Hub's layout: published JSON around random weights under the published tensor names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, FluxTransformer2DModel, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from .scale import TEXT_WIDTH, scaled, unet
from .tokenizers import PIECES, VOCABULARY, write_clip, write_t5

Json = dict[str, Any]

_NETWORKS = {
    "AutoencoderKL": AutoencoderKL,
    "ControlNetModel": ControlNetModel,
    "FluxTransformer2DModel": FluxTransformer2DModel,
    "UNet2DConditionModel": UNet2DConditionModel,
}
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def write_folder(folder: Path, files: Mapping[str, Json], seed: int = 0) -> Path:
    """Write a checkpoint folder: the JSON of `files`, scaled down, and random weights that fit it.

    Args:
        folder: The folder to make.
        files: JSON objects by path, at published sizes (`folders.FOLDERS`).
        seed: Seed of the weights.

    Returns:
        The folder.
    """
    torch.manual_seed(seed)
    small = scaled(dict(files), VOCABULARY, PIECES)
    for path, content in small.items():
        write_json(folder / path, content)
        parent = folder / Path(path).parent
        if path.endswith("tokenizer_config.json"):
            write = write_t5 if content["tokenizer_class"].startswith("T5") else write_clip
            write(parent)
        elif path.startswith("text_encoder"):
            save(text_encoder(content, files["model_index.json"][parent.name][1]), parent / "model.safetensors")
        elif content.get("_class_name") in _NETWORKS:
            save(network(content), parent / "diffusion_pytorch_model.safetensors")
    return folder


def write_controlnet(folder: Path, config: Json, seed: int = 1) -> Path:
    """Write the folder of a ControlNet, scaled down to go with the base that its `cross_attention_dim` fits."""
    torch.manual_seed(seed)
    small = unet(
        config, sum(TEXT_WIDTH.values()) if config["cross_attention_dim"] == 2048 else TEXT_WIDTH["text_encoder"]
    )
    write_json(folder / "config.json", small)
    save(network(small), folder / "diffusion_pytorch_model.safetensors")
    return folder


def write_json(file: Path, content: Json) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")


def network(config: Json) -> dict[str, torch.Tensor]:
    """Tensors of a random network of a config.json; the outputs of ControlNets are large enough to matter."""
    kind = config["_class_name"]
    net: nn.Module = _NETWORKS[kind].from_config(config)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith("controlnet_"):
                parameter.normal_(std=0.3 / parameter[0].numel() ** 0.5)
    tensors = net.state_dict()
    if kind == "AutoencoderKL" and config["_diffusers_version"] < "0.11":
        return {_old_name(name): tensor for name, tensor in tensors.items()}
    return tensors


def _old_name(name: str) -> str:
    """A tensor's name as Diffusers wrote it before 0.11."""
    if ".attentions." in name:
        for new, old in _OLD_ATTENTION.items():
            name = name.replace(f".{new}.", f".{old}.")
    return name


def text_encoder(config: Json, kind: str) -> dict[str, torch.Tensor]:
    """Tensors of a random text encoder under the names of published files."""
    if kind == "T5EncoderModel":
        tensors = T5EncoderModel(T5Config(**config)).state_dict()
        return {name: tensor for name, tensor in tensors.items() if name != "encoder.embed_tokens.weight"}
    cls = CLIPTextModel if kind == "CLIPTextModel" else CLIPTextModelWithProjection
    net = cls(CLIPTextConfig(**{key: value for key, value in config.items() if key != "architectures"}))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "token_embedding" in name:
                parameter.mul_(20)  # so that the prompt matters
    tensors = {}
    for name, tensor in net.state_dict().items():
        prefixed = name.startswith(("text_model.", "text_projection."))
        tensors[name if prefixed else f"text_model.{name}"] = tensor
    positions = config["max_position_embeddings"]
    if str(config["transformers_version"]) < "4.31":
        tensors["text_model.embeddings.position_ids"] = torch.arange(positions)[None]
    return tensors


def save(tensors: Mapping[str, torch.Tensor], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata={"format": "pt"})
