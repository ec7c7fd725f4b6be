"""Which files of a repository in the Hub's layout a checkpoint is loaded from."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

STEMS = ("diffusion_pytorch_model", "model")
_SMALL_FILES = (".json", ".txt", ".model")
# Parts of published pipelines that no sampling here reads.
_UNREAD = ("feature_extractor", "image_encoder", "safety_checker")
_COMPONENT = re.compile(r"[A-Za-z]\w*", re.ASCII)
_SHARD = r"-\d{5}-of-\d{5}"
# Both spellings of a variant are in use, for shards and for their index: before the number and behind it.
_WEIGHTS = re.compile(
    rf"(?:{'|'.join(STEMS)})(?:\.(?P<a>\w+))?(?P<shard>{_SHARD})?(?:\.(?P<b>\w+))?\.safetensors"
    r"(?P<index>(?:\.(?P<c>\w+))?\.index(?:\.(?P<d>\w+))?\.json)?"
)


def component_names(index: Mapping[str, Any], place: str) -> list[str]:
    """The components that a model_index.json names; ValueError for a name that is no plain folder's."""
    names = [name for name, value in index.items() if isinstance(value, list)]
    for name in names:
        if not _COMPONENT.fullmatch(name):
            raise ValueError(f"{place} names a component {name[:80]!r}, which is no folder of the checkpoint")
    return [name for name in names if index[name] and index[name][0] is not None and name not in _UNREAD]


def variants(names: Iterable[str]) -> list[str]:
    """The variants ("fp16") in which the weights among file `names` of one folder exist."""
    found = {_variant(match) for name in names if (match := _WEIGHTS.fullmatch(name))}
    return sorted(variant for variant in found if variant)


def _variant(match: re.Match[str]) -> str:
    return match["a"] or match["b"] or match["c"] or match["d"] or ""


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
    matches = [(file, match) for file in inside if (match := _WEIGHTS.fullmatch(file[len(folder) :]))]
    for wanted in (variant, ""):
        weights = [(file, match) for file, match in matches if _variant(match) == wanted]
        whole = [file for file, match in weights if not match["shard"] and not match["index"]]
        if weights:
            return small + (whole or [file for file, _ in weights])
    return small
