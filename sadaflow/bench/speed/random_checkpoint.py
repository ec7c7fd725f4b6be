"""Writes checkpoints with random weights in the Hub's layout, without Diffusers."""

import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sadaflow.models import Autoencoder, AutoencoderConfig, FluxConfig, FluxTransformer, UNet, UNetConfig

from ...families import FAMILIES
from ...families.hooks import Build, Builders, builders_of
from ...loading.embedded import EMBEDDED
from ...loading.hub.write import published_keys, write_json
from ...loading.json_file import read_object
from ...loading.transformers_package import transformers_module
from .architectures import Architecture, Config, architecture

_SHARD: Final = 2 * 2**30

_USUAL: Final[Builders] = {
    "unet": ("UNet2DConditionModel", lambda config: UNet(UNetConfig.from_dict(config))),
    "transformer": ("FluxTransformer2DModel", lambda config: FluxTransformer(FluxConfig.from_dict(config))),
    "vae": ("AutoencoderKL", lambda config: Autoencoder(AutoencoderConfig.from_dict(config))),
}
_IDS: Final = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")
_TOKENIZERS: Final = {
    "CLIPTokenizer": ("tiny-sd", "tokenizer", 77),
    "T5TokenizerFast": ("tiny-flux", "tokenizer_2", 512),
}


def random_checkpoint(name: str, cache: Path, dtype: torch.dtype) -> Path:
    """Returns the folder of a random checkpoint, and writes it if it does not exist.

    Args:
        name: Name of the architecture, see `architecture`.
        cache: Folder of the random checkpoints.
        dtype: Type of the stored weights.

    Returns:
        The folder. It appears under its name only when complete.
    """
    made = architecture(name)
    folder = cache / f"{name.replace('/', '-')}-{str(dtype).removeprefix('torch.')}"
    if (folder / "model_index.json").is_file():
        return folder
    part = cache / f".{folder.name}.{os.getpid()}.part"
    part.mkdir(parents=True)
    try:
        write_random(made, part, dtype)
        os.replace(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return folder


def write_random(made: Architecture, folder: Path, dtype: torch.dtype) -> None:
    """Writes all files of a random checkpoint into `folder`."""
    index: dict[str, Any] = {
        "_class_name": made.pipeline,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "scheduler": ["diffusers", made.scheduler["_class_name"]],
    }
    if made.pipeline == "StableDiffusionPipeline":
        index |= {"safety_checker": [None, None], "requires_safety_checker": False}
    generator = torch.Generator().manual_seed(0)
    for component, config in made.components.items():
        index[component] = ["diffusers", _network(made.pipeline, component)[0]]
        _write_config(folder / component, config)
        names = empty_backbone(component, config, made.pipeline).state_dict()
        _write_weights(folder / component, "diffusion_pytorch_model", names, dtype, generator)
    for component, config in made.text.items():
        suffix = component.removeprefix("text_encoder")
        cls = _text_class(config)
        tokenizer = "CLIPTokenizer" if cls.startswith("CLIP") else "T5TokenizerFast"
        index[component], index[f"tokenizer{suffix}"] = ["transformers", cls], ["transformers", tokenizer]
        _write_tokenizer(folder / f"tokenizer{suffix}", tokenizer)
        _write_text_encoder(folder / component, cls, config, dtype, generator)
    _write_config(folder / "scheduler", made.scheduler, "scheduler_config.json")
    write_json(folder / "model_index.json", index)


def empty_backbone(component: str, config: Config, pipeline: str = "") -> nn.Module:
    """Builds the network of a config, which is a component of a pipeline class, on the meta device."""
    with torch.device("meta"):
        return _network(pipeline, component)[1](config)


def _network(pipeline: str, component: str) -> tuple[str, Build]:
    """Class name and constructor of a component."""
    own = builders_of(FAMILIES[pipeline]) if pipeline else {}
    return {**_USUAL, **own}[component]


def _text_class(config: Config) -> str:
    if "d_model" in config:
        return "UMT5EncoderModel" if config.get("model_type") == "umt5" else "T5EncoderModel"
    return "CLIPTextModelWithProjection" if "projection_dim" in config else "CLIPTextModel"


def _write_text_encoder(
    folder: Path, name: str, config: Config, dtype: torch.dtype, generator: torch.Generator
) -> None:
    """Writes a text encoder with the vocabulary of its tokenizer, which is an embedded checkpoint's."""
    model, component = ("tiny-flux", "text_encoder_2") if "T5" in name else ("tiny-sd", "text_encoder")
    known = read_object(EMBEDDED / model / component / "config.json")
    ids = {key: known[key] for key in _IDS if key in known}
    cls = getattr(transformers_module(), name)
    with torch.device("meta"):
        encoder = cls(cls.config_class(**{key: value for key, value in config.items() if key != "model_type"}, **ids))
    state = {key: value for key, value in encoder.state_dict().items() if key != "encoder.embed_tokens.weight"}
    if name == "CLIPTextModel":
        state = published_keys(state)
    _write_config(folder, {**encoder.config.to_dict(), "architectures": [name]})
    _write_weights(folder, "model", state, dtype, generator)


def _write_tokenizer(folder: Path, name: str) -> None:
    """Copies the tokenizer of an embedded checkpoint, with the published number of tokens."""
    model, component, length = _TOKENIZERS[name]
    shutil.copytree(EMBEDDED / model / component, folder)
    settings = read_object(folder / "tokenizer_config.json")
    write_json(folder / "tokenizer_config.json", {**settings, "model_max_length": length})


def _write_config(folder: Path, config: Config, name: str = "config.json") -> None:
    write_json(folder / name, dict(config))


def _write_weights(
    folder: Path, stem: str, empty: Mapping[str, Tensor], dtype: torch.dtype, generator: torch.Generator
) -> None:
    """Writes random tensors with the names and shapes of `empty`, in shards of at most 2 GiB, one at a time."""
    shards = list(_shards(empty, dtype.itemsize))
    index: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        single = len(shards) == 1
        file = f"{stem}.safetensors" if single else f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        state = {name: random_weight(name, empty[name].shape, generator).to(dtype) for name in names}
        save_file(state, folder / file, {"format": "pt"})
        index |= dict.fromkeys(names, file)
    if len(shards) > 1:
        write_json(folder / f"{stem}.safetensors.index.json", {"metadata": {}, "weight_map": index})


def _shards(empty: Mapping[str, Tensor], itemsize: int) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, tensor in empty.items():
        if names and size + tensor.numel() * itemsize > _SHARD:
            yield names
            names, size = [], 0
        names.append(name)
        size += tensor.numel() * itemsize
    yield names


def random_weight(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Draws a weight that roughly keeps the magnitude of activations.

    Outputs are finite in every dtype, and depend on prompt and time.
    """
    if len(shape) > 1:
        return torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
    noise = 0.1 * torch.randn(shape, generator=generator)
    return 1 + noise if name.endswith("weight") else noise
