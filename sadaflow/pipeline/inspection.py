"""What a checkpoint holds and what of it would be downloaded, from configs and headers alone."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..families import CONTROLNETS, FAMILIES
from ..families.hooks import recommended_by
from ..loading.checkpoint import Checkpoint
from ..loading.embedded import DEFAULT, embedded
from ..loading.hub.cache import RepoFile
from ..loading.hub.download import Repository
from ..loading.hub.errors import explained
from ..loading.hub.layout import component_names, component_prefix, needed_component
from ..loading.hub.locate import is_file_name, is_hub_id, locate_checkpoint, locate_file
from ..loading.hub.options import HubOptions
from ..loading.sampling_defaults import Recommended
from .controlnets import prepare_controlnet
from .inspected import Component, Inspection, describe, sampling_of
from .inspected_file import inspect_file
from .inspected_files import Files, LocalFiles, RemoteFiles
from .prepare import prepare_pipeline

__all__ = ["Component", "Inspection", "describe", "inspect"]


def inspect(
    model: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    endpoint: str | None = None,
) -> Inspection:
    """Describe `model`, a Hub id, a folder, a single file, or the name of an embedded checkpoint (None: tiny-sd).

    Weights are neither loaded nor downloaded, except that a single file on the Hub is downloaded. See `HubOptions` for
    the other arguments, and `fetch` for the errors.
    """
    hub = HubOptions(revision, variant, cache_dir, token, local_files_only, endpoint)
    if model is not None and is_file_name(model):
        return inspect_file(locate_file(model, hub))
    name = str(model or DEFAULT)
    files = open_files(model, hub)
    if isinstance(files, LocalFiles):
        return _describe(name, files)
    with explaining(name, revision):
        return _describe(name, files)


def open_files(model: str | os.PathLike[str] | None, hub: HubOptions) -> Files:
    """The files of a checkpoint; of a repository that is not here, all but the weights are downloaded.

    Args:
        model: A Hub id, a folder, or the name of an embedded checkpoint; None is tiny-sd.
        hub: How the Hub is reached.

    Raises:
        FileNotFoundError, ConnectionError, PermissionError, OSError: If a file cannot be fetched.
    """
    name, folder = str(model or DEFAULT), Path(embedded(model))
    marker = "config.json" if (folder / "config.json").is_file() else "model_index.json"
    if folder.exists() or not is_hub_id(name) or hub.offline:
        root = locate_checkpoint(folder, replace(hub, local_files_only=True), marker=marker)
        return LocalFiles(root, hub.variant)
    with explaining(name, hub.revision):
        repository = Repository.open(name, hub)
        names = {file.name for file in repository.files}
        single = "config.json" in names and "model_index.json" not in names
        index = None if single else repository.read("model_index.json")
        repository.fetch([file for file in repository.needed(index) if not file.name.endswith(".safetensors")])
        return RemoteFiles(repository)


@contextmanager
def explaining(name: str, revision: str | None) -> Iterator[None]:
    """Context manager in which errors of the Hub say what to do about the checkpoint `name`."""
    try:
        yield
    except Exception as error:
        raise explained(error, name, revision) from error


def _describe(place: str, source: Files) -> Inspection:
    files = {file.name: file for file in source.files}
    index = source.json("model_index.json") if "model_index.json" in files or "config.json" not in files else None
    config = source.json("config.json") if index is None else index
    kind, where = str(config.get("_class_name")), f"{place}/model_index.json"
    recommended = Recommended.read(index or {}, where)
    downloads: tuple[RepoFile, ...] = ()
    if isinstance(source, RemoteFiles):
        downloads = tuple(source.repository.needed(index))
    components = tuple(_components(place, kind, config if index is None else index, index is None, source))
    refused, notes = _verdict(kind, source.checkpoint())
    return Inspection(
        place,
        kind,
        kind in FAMILIES or kind in CONTROLNETS,
        components,
        **_sampling(kind, source, set(files), recommended),
        downloads=downloads,
        listed=sum(file.size or 0 for file in source.files),
        refused=refused,
        notes=notes,
    )


def _components(
    place: str, kind: str, config: Mapping[str, Any], single: bool, source: Files
) -> Iterator[Component]:
    """The parts of a pipeline, or the one component that the place holds."""
    sizes = {file.name: file.size for file in source.files}
    known = {"": kind}
    if not single:
        names = component_names(config, f"{place}/model_index.json")
        known = {component: str(config[component][-1]) for component in names}
    for component, cls in known.items():
        inside = needed_component(sizes, component_prefix(sizes, component), source.variant)
        weights = [file for file in inside if file.endswith(".safetensors")]
        counts: Counter[str] = Counter()
        for file in weights:
            for stored in source.stored(file):
                counts[stored.format] += stored.elements
        size = sum(sizes[file] or 0 for file in weights)
        yield Component(component or PurePosixPath(place).name, cls, dict(counts), size)


def _verdict(kind: str, checkpoint: Checkpoint) -> tuple[str | None, tuple[str, ...]]:
    """The error that loading would raise, if any, and its warnings: configs, tokenizers and headers are checked."""
    refused = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if kind in CONTROLNETS:
                prepare_controlnet(checkpoint).build()
            else:
                prepare_pipeline(checkpoint).build()
        except (ValueError, OSError, ImportError) as error:
            refused = str(error)
    return refused, tuple(dict.fromkeys(str(one.message) for one in caught))


def _sampling(kind: str, source: Files, files: set[str], recommended: Recommended) -> dict[str, Any]:
    """Schedule, prediction, and what is recommended; see `sampling_of`."""
    scheduler = component_prefix(files, "scheduler") + "scheduler_config.json"
    if scheduler not in files:
        return sampling_of({}, recommended, None, guided=True)
    config = source.json(scheduler)
    if kind in FAMILIES:
        with suppress(ValueError, OSError):  # what loading says of it stands in `refused`
            recommended = recommended.or_else(recommended_by(FAMILIES[kind], source.json))
        config = FAMILIES[kind].scheduler_config(config)
    transformer = "transformer/config.json"
    guided = transformer not in files or bool(source.json(transformer).get("guidance_embeds", False))
    guidance = FAMILIES[kind].default_guidance if kind in FAMILIES else None
    return sampling_of(config, recommended, guidance, guided=guided)
