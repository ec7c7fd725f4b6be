"""What a checkpoint holds and what of it would be downloaded, from configs and headers alone."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from sadaflow.solvers import read_schedule

from ..families import FAMILIES
from ..loading.checkpoint import Checkpoint
from ..loading.embedded import DEFAULT, embedded
from ..loading.hub.cache import RepoFile
from ..loading.hub.download import Repository
from ..loading.hub.errors import explained
from ..loading.hub.layout import component_names, needed_component
from ..loading.hub.locate import is_hub_id, locate_checkpoint
from ..loading.hub.options import HubOptions
from ..loading.sampling_defaults import Recommended
from .controlnets import prepare_controlnet
from .inspected_files import Files, LocalFiles, RemoteFiles
from .prepare import prepare_pipeline

_SCHEDULER = "scheduler/scheduler_config.json"


@dataclass(frozen=True)
class Component:
    """A folder of a checkpoint: its class, and of its weights the parameters by number format ("F16") and the bytes."""

    name: str
    kind: str
    parameters: Mapping[str, int]
    bytes: int

    @property
    def count(self) -> int:
        return sum(self.parameters.values())


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint holds, and what loading it would say.

    Attributes:
        place: The folder or Hub id.
        kind: Class of the pipeline or component.
        supported: Whether checkpoints of this class can be loaded at all.
        components: The parts of the checkpoint.
        scheduler: Class of the scheduler config; this and the next five are None if there is none that can be read.
        schedule: The noise schedule in words.
        prediction: What the network predicts.
        solver: Name of the recommended solver: by the checkpoint, else by us. So are the next two.
        steps: Recommended number of steps.
        guidance: Recommended guidance.
        downloads: Files that loading an id would download; empty for a folder.
        listed: Bytes of all files of the repository.
        refused: The error that loading would raise, or None if the checkpoint loads.
        notes: What loading would warn of: ignored fields and the like.
    """

    place: str
    kind: str
    supported: bool
    components: tuple[Component, ...]
    scheduler: str | None
    schedule: str | None
    prediction: str | None
    solver: str | None
    steps: int | None
    guidance: float | None
    downloads: tuple[RepoFile, ...] = ()
    listed: int = 0
    refused: str | None = None
    notes: tuple[str, ...] = ()


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
    """Describe `model`, a Hub id, a folder or the name of an embedded checkpoint (None: tiny-sd).

    Weights are neither loaded nor downloaded. See `HubOptions` for the other arguments, and `fetch` for the errors.
    """
    name, folder = str(model or DEFAULT), Path(embedded(model))
    hub = HubOptions(revision, variant, cache_dir, token, local_files_only, endpoint)
    marker = "config.json" if (folder / "config.json").is_file() else "model_index.json"
    if folder.exists() or not is_hub_id(name) or hub.offline:
        root = locate_checkpoint(folder, replace(hub, local_files_only=True), marker=marker)
        return _describe(name, LocalFiles(root, variant))
    try:
        repository = Repository.open(name, hub)
        names = {file.name for file in repository.files}
        single = "config.json" in names and "model_index.json" not in names
        index = None if single else repository.read("model_index.json")
        repository.fetch([file for file in repository.needed(index) if not file.name.endswith(".safetensors")])
        return _describe(name, RemoteFiles(repository))
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
        kind in FAMILIES or kind == "ControlNetModel",
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
        inside = needed_component(sizes, f"{component}/" if component else "", source.variant)
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
            if kind == "ControlNetModel":
                prepare_controlnet(checkpoint)()
            else:
                prepare_pipeline(checkpoint).build()
        except (ValueError, OSError, ImportError) as error:
            refused = str(error)
    return refused, tuple(dict.fromkeys(str(one.message) for one in caught))


def _sampling(kind: str, source: Files, files: set[str], recommended: Recommended) -> dict[str, Any]:
    """Schedule, prediction, and what is recommended: by the checkpoint itself, or else by us.

    25 steps of DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095) for diffusion; for Flux.1 what its authors do with
    Euler: 4 steps where the network was distilled to need no guidance (schnell), else 50.
    """
    empty = dict.fromkeys(("scheduler", "schedule", "prediction", "solver", "steps", "guidance"))
    if _SCHEDULER not in files:
        return empty
    config = source.json(_SCHEDULER)
    if kind in FAMILIES:
        config = FAMILIES[kind].scheduler_config(config)
    try:
        found_schedule, prediction = read_schedule(config)
    except ValueError:  # what loading says of it stands in `refused`
        return empty
    schedule = type(found_schedule).__name__
    if "beta_schedule" in config:
        schedule += f", {config['beta_schedule']} betas {config.get('beta_start')} to {config.get('beta_end')}"
    recommended = recommended.or_distilled(config)
    solver, steps = "dpmpp2m", 25
    if prediction == "flow_prediction":
        transformer = "transformer/config.json"
        guided = transformer not in files or source.json(transformer).get("guidance_embeds", False)
        solver, steps = "euler", 50 if guided else 4
    guidance = FAMILIES[kind].default_guidance if kind in FAMILIES else None
    if recommended.guidance is not None:
        guidance = recommended.guidance
    found = (str(prediction), recommended.solver or solver, recommended.steps or steps, guidance)
    return dict(zip(empty, (str(config.get("_class_name")), schedule, *found), strict=True))


def describe(found: Inspection) -> str:
    """`found` as a text table."""
    rows = [("component", "class", "parameters", "dtype", "weights")]
    for part in found.components:
        dtypes = "+".join(sorted(part.parameters)) or "-"
        rows.append((part.name, part.kind, _short(part.count, 1000) if part.count else "-", dtypes, _bytes(part.bytes)))
    total = sum(part.count for part in found.components)
    rows.append(("all", "", _short(total, 1000), "", _bytes(sum(part.bytes for part in found.components))))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    head = f"{found.place}: {found.kind}" + ("" if found.supported else " (not supported)")
    lines = [head, *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)]
    if total:
        half, most = _bytes(2 * total), _bytes(2 * max(part.count for part in found.components))
        lines.append(f"memory       weights in float16 or bfloat16 {half}, with --offload model {most} at a time")
    if found.scheduler is not None:
        lines.append(f"scheduler    {found.scheduler} ({found.schedule}); the network predicts {found.prediction}")
        guidance = "" if found.guidance is None else f" --guidance {found.guidance:g}"
        lines.append(f"recommended  --solver {found.solver} --steps {found.steps}{guidance}")
    lines.append("loads        " + ("yes" if found.refused is None else f"no: {found.refused}"))
    lines += [f"note         {note}" for note in found.notes]
    if found.downloads:
        wanted = sum(file.size or 0 for file in found.downloads)
        lines.append(
            f"download     {len(found.downloads)} files, {_bytes(wanted)} of the repository's {_bytes(found.listed)}:"
        )
        lines += [f"  {_bytes(file.size or 0):>9}  {file.name}" for file in found.downloads]
    return "\n".join(lines)


def _short(number: float, base: int) -> str:
    for unit in ("", "k", "M", "G"):
        if number < base or unit == "G":
            break
        number /= base
    return f"{number:.0f}{unit}" if unit == "" else f"{number:.1f} {unit}"


def _bytes(number: int) -> str:
    return f"{_short(number, 1000)}B" if number >= 1000 else (f"{number} B" if number else "-")
