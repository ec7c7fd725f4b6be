"""Finds what a user names, on disk or on the Hub: checkpoints, single files, LoRA files, parts of a checkpoint."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from .cache import RepoFile, stays_inside
from .download import Repository, fetch
from .layout import needed_component
from .options import DEFAULT_OPTIONS, HubOptions

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILE_ID = re.compile(r"([\w.-]+/[\w.-]+)/(.+\.(?:safetensors|sft))")
_PICKLE = "a pickle, which can run code when it is read, and will not be read"
_FILES = (".safetensors", ".sft")
_OTHER_FILES = {
    **dict.fromkeys((".ckpt", ".pt", ".pth", ".bin", ".pkl"), _PICKLE),
    ".gguf": "a GGUF file, whose quantized weights are not read",
}
ADAPTER_FILE, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""PEFT's names of a LoRA file and of the settings beside it."""
_LORA_FILES = ("pytorch_lora_weights.safetensors", ADAPTER_FILE)
_EMBEDDING_FILES = ("learned_embeds.safetensors",)

Name = str | os.PathLike[str]
"""A path or a Hub id."""


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form of a Hub id, "owner/name"; the repository need not exist."""
    return _HUB_ID.fullmatch(name) is not None


def is_file_name(name: Name) -> bool:
    """Whether `name` is that of a single file: of one that exists, or by its ending."""
    path = Path(name)
    return path.suffix.lower() in (*_FILES, *_OTHER_FILES) or path.is_file()


def locate_checkpoint(
    model: Name, hub: HubOptions = DEFAULT_OPTIONS, *, marker: str = "model_index.json", weights: bool = True
) -> Path:
    """The local folder of a checkpoint in the Hub's layout, downloaded if `model` is a Hub id.

    Args:
        model: A folder, or a Hub id.
        hub: How the Hub is reached; of its variants `hub.variant` is fetched.
        marker: The file that every such checkpoint has: "model_index.json" for a pipeline, "config.json" for a
            single component.
        weights: False to fetch only the small files, configs and tokenizers.

    Raises:
        FileNotFoundError: If the folder or repository is not such a checkpoint.
        ValueError: If `model` is neither a folder nor a Hub id.
        ConnectionError, PermissionError, OSError: See `fetch`.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / marker).is_file():
            raise FileNotFoundError(f"{folder} is not a checkpoint in the Hub's layout: it has no {marker}")
        return folder

    def choose(repository: Repository) -> list[RepoFile]:
        repository.file(marker)
        needed = repository.needed(None if marker == "config.json" else repository.read(marker))
        return needed if weights else [file for file in needed if not file.name.endswith(".safetensors")]

    return fetch(_hub_id(model, "a folder in the Hub's layout"), hub, choose, marker)


def locate_file(model: Name, hub: HubOptions = DEFAULT_OPTIONS, *, beside: Sequence[str] = ()) -> Path:
    """The local path of a safetensors file.

    Args:
        model: A path, or "owner/name/file.safetensors" for a file on the Hub.
        hub: How the Hub is reached.
        beside: Names of further files to fetch from the same folder if they exist.

    Raises:
        ValueError: If `model` is neither.
        FileNotFoundError, ConnectionError, PermissionError, OSError: See `fetch`.
    """
    path = Path(model)
    if path.is_file():
        return path
    if (other := _OTHER_FILES.get(path.suffix.lower())) is not None:
        raise ValueError(f"{str(model)!r} is {other}; take the safetensors file")
    match = _FILE_ID.fullmatch(str(model))
    if match is None or not stays_inside(str(model)):
        raise ValueError(f"{str(model)!r} is neither a file nor of the form owner/name/file.safetensors on the Hub")
    name, file = match.groups()
    also = {str(PurePosixPath(file).with_name(other)) for other in beside}

    def choose(repository: Repository) -> list[RepoFile]:
        return [repository.file(file), *(other for other in repository.files if other.name in also)]

    return fetch(name, hub, choose, file) / file


def locate_config(model: Name, file: str, hub: HubOptions = DEFAULT_OPTIONS) -> Path:
    """The local path of one small file of the repository `model`; raises as `fetch` does."""
    name = _hub_id(model, "a file, nor a folder")
    return fetch(name, hub, lambda repository: [repository.file(file)], file) / file


_CONFIGS = frozenset({"model_index.json", "transformer/config.json"})
"""Small files that say what a checkpoint is, fetched with any of its parts."""


def locate_parts(model: Name, components: Sequence[str], hub: HubOptions = DEFAULT_OPTIONS) -> Path:
    """The local folder of a checkpoint, of which only the folders `components` are fetched.

    Raises:
        ValueError: If `model` is neither a folder nor a Hub id.
        FileNotFoundError, ConnectionError, PermissionError, OSError: See `fetch`.
    """
    folder = Path(model)
    if folder.is_dir():
        return folder

    def choose(repository: Repository) -> list[RepoFile]:
        names = [file.name for file in repository.files]
        parts = (needed_component(names, f"{component}/", hub.variant) for component in components)
        chosen = {name for part in parts for name in part} | _CONFIGS
        return [file for file in repository.files if file.name in chosen]

    return fetch(_hub_id(model, "a folder"), hub, choose, None)


def locate_lora(model: Name, weight_name: str | None = None, hub: HubOptions = DEFAULT_OPTIONS) -> Path:
    """The local path of a LoRA file.

    Args:
        model: A safetensors file, a folder, a Hub id, or "owner/name/file.safetensors".
        weight_name: The file in the folder or repository; None for one under a usual name, or the only one.
        hub: How the Hub is reached.

    Raises:
        ValueError: If `weight_name` leads out of the folder or is needed to choose among several files.
        FileNotFoundError, ConnectionError, PermissionError, OSError: See `fetch`.
    """
    return _locate_weights(model, weight_name, hub, _LORA_FILES)


def locate_embedding(model: Name, weight_name: str | None = None, hub: HubOptions = DEFAULT_OPTIONS) -> Path:
    """The local path of a textual inversion; see `locate_lora`."""
    return _locate_weights(model, weight_name, hub, _EMBEDDING_FILES)


def _locate_weights(model: Name, weight_name: str | None, hub: HubOptions, usual: Sequence[str]) -> Path:
    """`locate_lora` for files whose usual names are `usual`."""
    if str(model).endswith(".safetensors"):
        return locate_file(model, hub, beside=(ADAPTER_CONFIG,))
    folder = Path(model)
    if folder.is_file():
        raise ValueError(
            f"{folder}: files other than safetensors (.pt, .bin, .ckpt) hold pickles, which can run code when they are "
            "read; convert it to safetensors"
        )
    if not folder.is_dir():
        name = _hub_id(model, "a folder")

        def choose(repository: Repository) -> list[RepoFile]:
            names = [file.name for file in repository.files]
            chosen = lora_file(names, weight_name, f"repository {name!r}", usual)
            beside = str(PurePosixPath(chosen).with_name(ADAPTER_CONFIG))
            return [file for file in repository.files if file.name in (chosen, beside)]

        folder = fetch(name, hub, choose, weight_name)
    files = [path.name for path in folder.glob("*.safetensors")]
    if weight_name is not None and stays_inside(weight_name) and (folder / weight_name).is_file():
        files.append(weight_name)
    return folder / lora_file(files, weight_name, str(folder), usual)


def lora_file(
    names: Iterable[str], weight_name: str | None, label: str, usual: Sequence[str] = _LORA_FILES
) -> str:
    """Which of the files `names` is the LoRA: `weight_name`, or one under a usual name, or the only safetensors file.

    Args:
        names: Paths relative to the folder or repository. Without `weight_name` only its top level is considered.
        weight_name: The user's choice.
        label: The folder or repository, for errors.
        usual: The usual names.

    Raises:
        ValueError: If `weight_name` leads out of the folder, or if it is None and there is not exactly one file.
        FileNotFoundError: If there is no file `weight_name`.
    """
    names = list(names)
    if weight_name is not None:
        if not stays_inside(weight_name):
            raise ValueError(f"weight_name={weight_name!r} leads out of {label}")
        if weight_name not in names:
            raise FileNotFoundError(f"{label} has no {weight_name}")
        return weight_name
    files = sorted(name for name in names if "/" not in name and name.endswith(".safetensors"))
    known = [name for name in usual if name in files]
    if known or len(files) == 1:
        return (known or files)[0]
    raise ValueError(f"{label} has several safetensors files or none ({', '.join(files) or 'none'}): give weight_name=")


def _hub_id(model: Name, alternative: str) -> str:
    """`model` as a Hub id; raises ValueError if it has another form or is a path that exists."""
    name = str(model)
    if Path(model).exists() or not is_hub_id(name):
        raise ValueError(f"{name!r} is neither {alternative} nor a Hub id of the form owner/name")
    return name
