"""Selects the files of a repository in the Hub's layout that a checkpoint is loaded from."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

STEMS = ("diffusion_pytorch_model", "model")
_SMALL_FILES = (".json", ".txt", ".model")
# Parts of published pipelines that sampling does not use.
_UNREAD = ("feature_extractor", "image_encoder", "safety_checker")
_COMPONENT = re.compile(r"[A-Za-z]\w*", re.ASCII)
_SHARD = r"-\d{5}-of-\d{5}"
# The variant stands before or after the number of a shard, and likewise in the name of the index.
_WEIGHTS = re.compile(
    rf"(?:{'|'.join(STEMS)})(?:\.(?P<a>\w+))?(?P<shard>{_SHARD})?(?:\.(?P<b>\w+))?\.safetensors"
    r"(?P<index>(?:\.(?P<c>\w+))?\.index(?:\.(?P<d>\w+))?\.json)?"
)


_AT_ROOT = {"unet": "config.json", "scheduler": "scheduler_config.json"}


def lies_at_root(component: str, exists: Callable[[str], bool]) -> bool:
    """Whether a component without a folder lies beside model_index.json, as in the first checkpoints (google/ddpm-*).

    Args:
        component: Its name.
        exists: Whether the checkpoint has a file of that name.
    """
    return component in _AT_ROOT and exists("model_index.json") and exists(_AT_ROOT[component])


def component_prefix(files: Iterable[str], component: str) -> str:
    """The folder of a component among the files of a checkpoint, with its slash; "" if it lies at the root."""
    names = set(files)
    prefix = f"{component}/" if component else ""
    inside = any(name.startswith(prefix) for name in names)
    return "" if not inside and lies_at_root(component, names.__contains__) else prefix


def component_names(index: Mapping[str, Any], label: str) -> list[str]:
    """The components that a model_index.json names.

    Args:
        index: Its content.
        label: Where it was read, for errors.

    Raises:
        ValueError: If a name is not that of a folder in the checkpoint.
    """
    names = [name for name, value in index.items() if isinstance(value, list)]
    for name in names:
        if not _COMPONENT.fullmatch(name):
            raise ValueError(f"{label} names a component {name[:80]!r}, which is not a folder of the checkpoint")
    return [name for name in names if index[name] and index[name][0] is not None and name not in _UNREAD]


def variants(names: Iterable[str]) -> list[str]:
    """The variants, such as "fp16", of the weight files among `names`, the files of one folder."""
    found = {_variant(match) for name in names if (match := _WEIGHTS.fullmatch(name))}
    return sorted(variant for variant in found if variant)


def _variant(match: re.Match[str]) -> str:
    return match["a"] or match["b"] or match["c"] or match["d"] or ""


def needed_files(files: Iterable[str], components: Sequence[str], variant: str | None) -> list[str]:
    """Select the files that a pipeline is loaded from.

    Args:
        files: Names of all files of the repository.
        components: Names of the components to load.
        variant: The variant to prefer; a component that lacks it is loaded from its plain files.

    Returns:
        Names of model_index.json, JSON files, vocabularies and safetensors.
    """
    files = list(files)
    parts = (needed_component(files, component_prefix(files, component), variant) for component in components)
    return list(dict.fromkeys(["model_index.json", *(file for part in parts for file in part)]))


def needed_component(files: Iterable[str], folder: str, variant: str | None) -> list[str]:
    """Select the files that the component in `folder` ("unet/", or "" for the root) is loaded from."""
    inside = [file for file in files if file.startswith(folder) and "/" not in file[len(folder) :]]
    small = [file for file in inside if file.endswith(_SMALL_FILES) and ".safetensors" not in file]
    matches = [(file, match) for file in inside if (match := _WEIGHTS.fullmatch(file[len(folder) :]))]
    for preferred in (variant, ""):
        weights = [(file, match) for file, match in matches if _variant(match) == preferred]
        whole = [file for file, match in weights if not match["shard"] and not match["index"]]
        if weights:
            return small + (whole or [file for file, _ in weights])
    return small
