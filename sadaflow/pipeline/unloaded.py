"""A pipeline without its weights: what a checkpoint recommends and can do, from configs and headers alone."""

from contextlib import nullcontext

import torch

from ..loading.hub.cache import RepoFile
from ..loading.hub.options import HubOptions
from .inspected_files import RemoteFiles
from .inspection import explaining, open_files
from .pipeline import Pipeline
from .prepare import prepare_pipeline, scheduler_config


def unloaded_pipeline(
    model: str | None, *, revision: str | None = None, variant: str | None = None, scheduler: str | None = None
) -> tuple[Pipeline, tuple[RepoFile, ...]]:
    """Read a checkpoint as `Pipeline.from_pretrained` does, but for its weights.

    Args:
        model: A Hub id, a folder, or the name of an embedded checkpoint; None is tiny-sd.
        revision: Branch, tag or commit of `model` on the Hub.
        variant: Variant of the weight files.
        scheduler: Replaces the checkpoint's scheduler config.

    Returns:
        A pipeline that chooses solvers and checks requests, and cannot be sampled from; and the files that loading it
        would still download.

    Raises:
        ValueError: If the checkpoint cannot be used as published; the field or tensor is named.
        FileNotFoundError, ConnectionError, PermissionError, OSError: If a file cannot be fetched.
    """
    hub = HubOptions(revision, variant)
    files = open_files(model, hub)
    checkpoint, missing = files.checkpoint(), ()
    with explaining(str(model), revision) if isinstance(files, RemoteFiles) else nullcontext():
        prepared = prepare_pipeline(checkpoint, scheduler_config(scheduler, hub.for_other_repository()))
        family = prepared.build()
    if isinstance(files, RemoteFiles):
        needed = files.repository.needed(files.json("model_index.json"))
        missing = tuple(file for file in needed if not (checkpoint.root / file.name).is_file())
    made = Pipeline(
        checkpoint.root.name,
        family,
        prepared.scheduler,
        dtype=torch.float32,
        device=torch.device("cpu"),
        recommended=prepared.recommended,
    )
    return made, missing
