"""Reads and checks the configs of a checkpoint before its weight files are downloaded or read."""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sadaflow.solvers import check_scheduler_config

from ..families import FAMILIES, Family, unsupported
from ..families.hooks import autoencoder_class, recommended_by
from ..families.members import prepare_family
from ..loading.checkpoint import Checkpoint
from ..loading.embedded import embedded
from ..loading.hub.locate import locate_config
from ..loading.hub.options import HubOptions
from ..loading.json_file import naming, read_object
from ..loading.sampling_defaults import Recommended

_SCHEDULER = "scheduler_config.json"

SchedulerSource = Mapping[str, Any] | str | os.PathLike[str]
"""A scheduler config: a dict, a JSON file, a folder with scheduler_config.json, a checkpoint's folder or a Hub id."""


@dataclass(frozen=True)
class Prepared:
    """A checkpoint whose configs and tokenizers have been read and checked, and whose weight files have not.

    Attributes:
        build_networks: Builds the networks and matches them with the weight files.
        scheduler: The scheduler config, as the published pipeline uses it.
        recommended: Settings that the checkpoint's authors recommend.
        tile: Side of the autoencoder's tiles in pixels, or None.
    """

    build_networks: Callable[[], Family]
    scheduler: dict[str, Any]
    recommended: Recommended
    tile: int | None

    def build(self) -> Family:
        """Build the networks and match them with the weight files; `checkpoint.fill` reads the weights.

        Raises:
            ValueError: If tensors are missing, unexpected, misshaped or of the wrong type.
            FileNotFoundError: If a weight file is missing.
        """
        family = self.build_networks()
        family.vae.tile = self.tile
        return family


def prepare_pipeline(
    checkpoint: Checkpoint, scheduler: Mapping[str, Any] | None = None, tile: int | None = None
) -> Prepared:
    """Read and check all of a checkpoint but its weight files.

    Args:
        checkpoint: The folder, and how it is loaded.
        scheduler: Scheduler config to use in place of the checkpoint's.
        tile: Side of the autoencoder's tiles in pixels, or None.

    Raises:
        ValueError: If a class, a config field or a tokenizer is not supported; it is named.
        FileNotFoundError: If a file is missing.
    """
    index, label = checkpoint.json("model_index.json"), f"{checkpoint.root}/model_index.json"
    class_name, recommended = str(index.get("_class_name")), Recommended.read(index, label)
    if class_name not in FAMILIES:
        need = f" ({needs})" if (needs := unsupported(class_name)) else ""
        raise ValueError(f"{label} names the class {class_name[:80]}{need}; supported: {', '.join(FAMILIES)}")
    family_class = FAMILIES[class_name]
    checkpoint.expect(family_class.components)
    source = "scheduler= (the scheduler config)" if scheduler else str(checkpoint.path("scheduler", _SCHEDULER))
    config = family_class.scheduler_config(scheduler or checkpoint.json("scheduler", _SCHEDULER))
    _check_scheduler(config, source)
    autoencoder = autoencoder_class(family_class)
    if "vae" in family_class.components:
        checkpoint.read(autoencoder.config_class.from_dict, "vae", "config.json").check_tile(tile)
    recommended = recommended.or_else(recommended_by(family_class, lambda name: checkpoint.json(*name.split("/"))))
    if scheduler is not None:  # what was recommended belongs to the checkpoint's own
        recommended = replace(recommended, steps=None, solver=None)
    build = prepare_family(class_name, family_class, checkpoint)
    return Prepared(build, config, recommended.or_distilled(config), tile)


def _check_scheduler(config: Mapping[str, Any], label: str) -> None:
    """Check that a scheduler config can be sampled with; notes become warnings that begin with `label`."""
    with naming(label):
        notes = check_scheduler_config(config)
    for note in notes:
        warnings.warn(f"{label}: {note}", stacklevel=6)


def scheduler_config(source: SchedulerSource | None, hub: HubOptions) -> dict[str, Any] | None:
    """The content of the scheduler config that a user names.

    Args:
        source: See `SchedulerSource`; None gives None.
        hub: How the Hub is reached.

    Raises:
        ValueError: If `source` is of none of these forms, or is not JSON.
        FileNotFoundError, ConnectionError, PermissionError, OSError: If the file cannot be fetched.
    """
    if source is None:
        return None
    if isinstance(source, Mapping):
        return dict(source)
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(f"scheduler={source!r} is not a config: pass a dict, a JSON file, a folder or a Hub id")
    path = Path(embedded(source) if not Path(source).exists() else source)
    if path.is_file():
        return read_object(path)
    if path.is_dir():
        for file in (path / _SCHEDULER, path / "scheduler" / _SCHEDULER):
            if file.is_file():
                return read_object(file)
        raise FileNotFoundError(f"scheduler={str(source)!r}: no {_SCHEDULER} in it or in scheduler/")
    return read_object(locate_config(source, f"scheduler/{_SCHEDULER}", hub))
