"""What a checkpoint holds and what of it would be downloaded, from configs and headers alone."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import huggingface_hub
from huggingface_hub import constants

from sadaflow.solvers import from_scheduler_config

from .embedded import DEFAULT, embedded
from .families import FAMILIES
from .hub import RepoFile, is_hub_id, list_files, resolve, wanted_files
from .hub_errors import explained
from .hub_files import component_names, needed_component
from .jsonfile import read_object
from .recommended import Recommended
from .safetensor_file import read_headers


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
    """A checkpoint of class `kind`. `schedule`, `prediction`, `solver`, `steps` and `guidance` are None where it has no
    scheduler that is known; the last three are what the checkpoint recommends, or else we. `downloads` are the files
    that loading an id would fetch, of `listed` bytes in the repository; empty for a folder."""

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


@dataclass(frozen=True)
class _Folder:
    """Where the files lie: the same questions as to `_Repository`."""

    root: Path
    variant: str | None

    @property
    def files(self) -> list[RepoFile]:
        paths = [path for path in self.root.rglob("*") if path.is_file()]
        return [RepoFile(path.relative_to(self.root).as_posix(), path.stat().st_size, None) for path in paths]

    def json(self, name: str) -> dict[str, Any]:
        return read_object(self.root / name)

    def parameters(self, file: str) -> Mapping[str, int]:
        counts: Counter[str] = Counter()
        for stored in read_headers([self.root / file]):
            counts[stored.kind] += stored.elements
        return counts


@dataclass(frozen=True)
class _Repository:
    """Small files are downloaded to the cache; of weights the first bytes are asked for."""

    place: Mapping[str, Any]
    files: list[RepoFile]
    variant: str | None

    def json(self, name: str) -> dict[str, Any]:
        return read_object(Path(huggingface_hub.hf_hub_download(filename=name, **self.place)))

    def parameters(self, file: str) -> Mapping[str, int]:
        from huggingface_hub import errors  # with an HTTP client, slow to import

        api = huggingface_hub.HfApi(endpoint=self.place["endpoint"], token=self.place["token"])
        where = {"repo_id": self.place["repo_id"], "revision": self.place["revision"]}
        try:
            found = api.parse_safetensors_file_metadata(filename=file, **where).parameter_count
            return {str(kind): count for kind, count in found.items()}
        except (LookupError, TypeError, AttributeError, RecursionError, errors.SafetensorsParsingError) as error:
            raise ValueError(f"{file} of {where['repo_id']!r} begins with no safetensors header: {error}") from error


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

    Its weights are neither loaded nor downloaded. Arguments and errors are those of `hub.resolve`.
    """
    name, folder = str(model or DEFAULT), Path(embedded(model))
    place = {"repo_id": name, "revision": revision, "cache_dir": cache_dir, "token": token, "endpoint": endpoint}
    marker = "config.json" if (folder / "config.json").is_file() else "model_index.json"
    if folder.exists() or not is_hub_id(name) or local_files_only or constants.HF_HUB_OFFLINE:
        asked: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir, "local_files_only": True}
        return _describe(name, _Folder(resolve(folder, marker=marker, **asked), variant))
    try:
        files = list_files(name, revision=revision, token=token, endpoint=endpoint)
        return _describe(name, _Repository(place, files, variant))
    except Exception as error:
        raise explained(error, name, revision, "model_index.json") from error


def _describe(place: str, source: _Folder | _Repository) -> Inspection:
    files = {file.name: file for file in source.files}
    index = source.json("model_index.json") if "model_index.json" in files or "config.json" not in files else None
    config = source.json("config.json") if index is None else index
    kind, recommended = str(config.get("_class_name")), Recommended.read(index or {}, f"{place}/model_index.json")
    known = {"": kind} if index is None else {}
    for component in component_names(index or {}, f"{place}/model_index.json"):
        known[component] = str(config[component][-1])
    components = []
    for component, cls in known.items():
        inside = needed_component(files, f"{component}/" if component else "", source.variant)
        weights = [file for file in inside if file.endswith(".safetensors")]
        counts: Counter[str] = Counter()
        for file in weights:
            counts.update(source.parameters(file))
        size = sum(files[file].size or 0 for file in weights)
        components.append(Component(component or PurePosixPath(place).name, cls, dict(counts), size))
    downloads: tuple[RepoFile, ...] = ()
    if isinstance(source, _Repository):
        downloads = tuple(wanted_files(source.files, index, source.variant, place))
    scheduler = "scheduler/scheduler_config.json"
    return Inspection(
        place,
        kind,
        kind in FAMILIES or kind == "ControlNetModel",
        tuple(components),
        **_sampling(kind, source.json(scheduler) if scheduler in files else None, source, files, recommended),
        downloads=downloads,
        listed=sum(file.size or 0 for file in source.files),
    )


def _sampling(
    kind: str,
    config: Mapping[str, Any] | None,
    source: _Folder | _Repository,
    files: Iterable[str],
    recommended: Recommended,
) -> dict[str, Any]:
    """Schedule, prediction, and what is recommended: by the checkpoint itself, or else by us.

    25 steps of DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095) for diffusion; for Flux.1 what its authors do with
    Euler: 4 steps where the network was distilled to need no guidance (schnell), else 50.
    """
    empty = dict.fromkeys(("scheduler", "schedule", "prediction", "solver", "steps", "guidance"))
    if config is None:
        return empty
    setup = from_scheduler_config(config, 50, image_tokens=1)  # the size moves no more than the shift, not told here
    schedule = type(setup.schedule).__name__
    if "beta_schedule" in config:
        schedule += f", {config['beta_schedule']} betas {config.get('beta_start')} to {config.get('beta_end')}"
    solver, steps = "dpmpp2m", 25
    if setup.prediction == "flow_prediction":
        transformer = "transformer/config.json"
        guided = transformer not in files or source.json(transformer).get("guidance_embeds", False)
        solver, steps = "euler", 50 if guided else 4
    guidance = FAMILIES[kind].default_guidance if kind in FAMILIES else None
    if recommended.guidance is not None:
        guidance = recommended.guidance
    found = (str(setup.prediction), recommended.solver or solver, recommended.steps or steps, guidance)
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
