"""`sadaflow bench speed`: measures what its settings ask for, and writes two files."""

import gc
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, Final

import torch

from ...accelerators import Accelerator, make_accelerator
from ...accelerators.caching.base import check_fit
from ...files.atomic import write_atomically
from ...loading.embedded import embedded, embedded_names
from ...loading.export import export_checkpoint
from ...loading.hub.locate import locate_checkpoint
from ...pipeline.progress import counting_bar
from ..run import environment
from . import controller, loading, starts
from .architectures import is_random
from .forced import replayed
from .random_checkpoint import random_checkpoint
from .rounds import interleaved
from .sampling import Record, measure_sampling
from .settings import MEASURES, Speed
from .sides import Ours, Theirs, diffusers_module
from .tables import markdown
from .task import Task, task_for

_CONTROLLED: Final = ("sada tokens=false", "auto")
_FILES: Final = ("speed.json", "speed.md")


def run_speed(speed: Speed, out: Path, cache: Path, *, device: torch.device, dtype: torch.dtype) -> str:
    """Measures, and writes speed.json (every number of every round) and speed.md (tables).

    Both files are written after every measurement, so that results are kept if a later one fails.

    Args:
        speed: What is measured.
        out: Folder for the files.
        cache: Folder in which random checkpoints (see `architecture`) are written and found again.
        device: Where the networks run.
        dtype: Type of the weights.

    Returns:
        Contents of speed.md.

    Raises:
        ValueError: If the settings do not fit the models. Nothing has been measured yet.
        ImportError: If Diffusers is needed and not installed.
        FileExistsError: If the folder holds results.
    """
    speed.check()
    accelerators = {name: make_accelerator(name) for name in speed.accelerators}
    if speed.replay is not None:
        accelerators |= {f"replayed {name}": forced for name, forced in replayed(speed.replay, speed.steps).items()}
    _check_folder(out)
    results = _header(speed, device, dtype)
    out.mkdir(parents=True, exist_ok=True)

    def keep(measure: str, record: Record) -> None:
        results[measure].append(record)
        write_atomically(out / "speed.json", json.dumps(results, indent=1).encode())
        write_atomically(out / "speed.md", markdown(results).encode())

    with TemporaryDirectory() as scratch:
        for model in speed.models:
            folder = _checkpoint_folder(model, cache, scratch, dtype)
            if {"sampling", "starts", "memory"} & set(speed.measures):
                _measure_pictures(speed, model, folder, accelerators, device, dtype, results, keep)
            if "loading" in speed.measures:
                _measure_loading(speed, model, folder, device, dtype, keep)
    if "controller" in speed.measures:
        chosen = {name: accelerators.get(name) or make_accelerator(name) for name in speed.accelerators or _CONTROLLED}
        unfit = controller.unfit(chosen, speed.steps, speed.solver)
        fit = {name: accelerator for name, accelerator in chosen.items() if name not in unfit}
        acts = controller.settings(fit, speed.steps, device, speed.solver)
        made = _rounds("controller", acts, speed.rounds)
        keep("controller", {"steps": speed.steps, "unfit": unfit, "rounds": made})
    return markdown(results)


def _checkpoint_folder(model: str, cache: Path, scratch: str, dtype: torch.dtype) -> Path:
    """A folder that both sides can load; an embedded checkpoint is exported to `scratch`, complete for Diffusers."""
    if is_random(model):
        return random_checkpoint(model, cache, dtype)
    if model in embedded_names():
        return export_checkpoint(model, Path(mkdtemp(dir=scratch)) / model)
    return locate_checkpoint(embedded(model))


def _measure_pictures(
    speed: Speed,
    model: str,
    folder: Path,
    accelerators: Mapping[str, Accelerator],
    device: torch.device,
    dtype: torch.dtype,
    results: Record,
    keep: Callable[[str, Record], None],
) -> None:
    ours = Ours(folder, dtype, device, speed.compiled, speed.mode)
    downscale = ours.pipe.vae.config.downscale
    tasks = [
        task_for(ours.pipe, batch, speed.steps, speed.size, speed.guidance, speed.solver) for batch in speed.batches
    ]
    for name, accelerator in accelerators.items():
        for task in tasks:
            _check_fit(name, accelerator, ours, task)
    named = [_description(speed, model, task, downscale) for task in tasks]
    if "sampling" in speed.measures:
        theirs = None if speed.alone else Theirs(folder, dtype, device, speed.solver, speed.compiled, speed.mode)
        for task, names in zip(tasks, named, strict=True):
            total = (speed.rounds + 1) * (len(speed.sides) + len(accelerators))
            with counting_bar(total, label=f"{model}, batch {names['batch']}", unit="run", leave=False) as advance:
                found = measure_sampling(ours, theirs, task, accelerators, speed.rounds, advance, latent=speed.latent)
            for name, modes in found.pop("modes").items():
                results["modes"][f"{name} on {model}, {speed.steps} steps, batch {names['batch']}"] = modes
            keep("sampling", {**names, **found})
        del theirs
    del ours
    gc.collect()  # hooks are cycles of references, and other processes need the memory
    if device.type == "cuda":
        torch.cuda.empty_cache()
    for task, names in zip(tasks, named, strict=True):
        process = starts.Process(folder, task, tuple(names["pixels"]), dtype, device, speed.latent)
        if "starts" in speed.measures and task is tasks[0]:
            made = _rounds(f"{model}, starts", starts.settings(process, speed.sides), speed.processes)
            keep("starts", {**names, "rounds": made})
        if "memory" in speed.measures:
            keep("memory", {**names, **{side: process.measure(side, memory=True) for side in speed.sides}})


def _description(speed: Speed, model: str, task: Task, downscale: int) -> Record:
    """Returns what identifies a task in the results."""
    return {
        "model": model,
        "batch": len(task.prompts),
        "pixels": [side * downscale for side in task.size],
        "latent": list(task.noise.shape),
        "steps": task.steps,
        "solver": task.solver,
        "guidance": task.guidance,
        "decoded": not speed.latent,
        "compiled": speed.compiled,
        "mode": speed.mode,
    }


def _measure_loading(
    speed: Speed,
    model: str,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    keep: Callable[[str, Record], None],
) -> None:
    size = sum(file.stat().st_size for file in loading.backbone_files(folder)[1])
    for cold in (False, True)[: 1 + loading.can_forget()]:
        acts = loading.settings(folder, dtype, device, alone=speed.alone, cold=cold)
        made = _rounds(f"{model}, loading", acts, speed.rounds, warm=not cold)
        keep("loading", {"model": model, "bytes": size, "cold": cold, "rounds": made})


def _check_fit(name: str, accelerator: Accelerator, ours: Ours, task: Task) -> None:
    try:
        solver, measured = ours.pipe.solver(task.solver, task.steps), ours.pipe.calibrations.held
        check_fit(accelerator, solver, task.noise.shape, ours.pipe.backbone, measured)
    except ValueError as error:
        raise ValueError(f"accelerator {name!r} on {ours.pipe.name}: {error}") from error


def _rounds(
    label: str, acts: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int, warm: bool = True
) -> list[Mapping[str, Mapping[str, float]]]:
    """Runs interleaved rounds; with `warm`, after a round that does not count."""
    with counting_bar((rounds + warm) * len(acts), label=label, unit="run", leave=False) as advance:
        if warm:
            interleaved(acts, 1, advance)
        return interleaved(acts, rounds, advance)


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; name a folder for the results")
    for name in _FILES:
        if (out / name).exists():
            raise FileExistsError(f"{out / name} exists; name another folder")


def _header(speed: Speed, device: torch.device, dtype: torch.dtype) -> Record:
    about: dict[str, Any] = {**environment.identity(device, dtype), **environment.session(device)}
    about["diffusers"] = None if speed.alone else diffusers_module().__version__
    settings = {**asdict(speed), "replay": None if speed.replay is None else str(speed.replay)}
    lists: Record = {name: [] for name in MEASURES}
    return {"environment": about, "settings": settings, **lists, "modes": {}}
