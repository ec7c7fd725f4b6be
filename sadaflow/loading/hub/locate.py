"""Where a single file and what it lacks come from: local paths, or ids of the Hub."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub

from .errors import explained

_FILE_ID = re.compile(r"([\w.-]+/[\w.-]+)/(.+\.(?:safetensors|sft))")


def locate_file(model: str | os.PathLike[str], **place: Any) -> Path:
    """The file `model`: a path, or "owner/name/file.safetensors" on the Hub.

    `place` are revision, cache_dir, token and local_files_only, as huggingface_hub takes them. Raises ValueError for
    what is neither, FileNotFoundError and ConnectionError where it cannot be had.
    """
    path = Path(model)
    if path.is_file():
        return path
    match = _FILE_ID.fullmatch(str(model))
    if match is None or ".." in str(model).split("/") or path.is_absolute():
        raise ValueError(f"{str(model)!r} is neither a file nor of the form owner/name/file.safetensors on the Hub")
    try:
        return Path(huggingface_hub.hf_hub_download(match[1], match[2], **place))
    except Exception as error:
        raise explained(error, match[1], place.get("revision"), match[2]) from error


def locate_folder(model: str | os.PathLike[str], patterns: Sequence[str], **place: Any) -> Path:
    """The folder `model`, or that of a repository of the Hub, of which only the files of the `patterns` are fetched."""
    folder = Path(model)
    if folder.is_dir():
        return folder
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(model)):
        raise ValueError(f"{str(model)!r} is neither a folder nor a Hub id of the form owner/name")
    try:
        return Path(huggingface_hub.snapshot_download(str(model), allow_patterns=list(patterns), **place))
    except Exception as error:
        raise explained(error, str(model), place.get("revision"), "") from error


def locate_parts(model: str | os.PathLike[str], components: Sequence[str], **place: Any) -> Path:
    """The folder of a checkpoint in the Hub's layout, of which only the folders `components` are downloaded."""
    patterns = [f"{part}/*.{end}" for part in components for end in ("json", "txt", "model", "safetensors")]
    return locate_folder(model, patterns, **place)


_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")


def find_lora(folder: Path, weight_name: str | None) -> Path:
    """The file of a LoRA in `folder`: `weight_name`, or one under a usual name, or the only safetensors file."""
    if weight_name is not None:
        if Path(weight_name).is_absolute() or ".." in Path(weight_name).parts:
            raise ValueError(f"weight_name={weight_name!r} leads out of {folder}")
        if not (folder / weight_name).is_file():
            raise FileNotFoundError(f"{folder} has no {weight_name}")
        return folder / weight_name
    files = sorted(folder.glob("*.safetensors"))
    usual = [folder / name for name in _FILES if folder / name in files]
    if usual or len(files) == 1:
        return (usual or files)[0]
    names = ", ".join(path.name for path in files) or "none"
    raise ValueError(f"{folder} has several safetensors files or none ({names}): give weight_name=")


def locate_lora(model: str | os.PathLike[str], weight_name: str | None = None, **place: Any) -> Path:
    """The file of a LoRA, as `load_lora` takes it; `place` are revision, cache_dir, token and local_files_only."""
    if str(model).endswith(".safetensors"):
        return locate_file(model, **place)
    wanted = (weight_name,) if weight_name is not None else ("*.safetensors", "adapter_config.json")
    return find_lora(locate_folder(model, wanted, **place), weight_name)
