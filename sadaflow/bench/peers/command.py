"""`sadaflow bench peers`: from the settings to peers.json and peers.md."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch

from ...families.flux import Flux
from ...families.request import Request
from ...families.stable_diffusion import StableDiffusion
from ...files.atomic import write_atomically
from ...pipeline.inputs import initial_noise
from ...pipeline.pipeline import Pipeline
from ...pipeline.progress import counting_bar
from ...sampling.calibration import magcache_ratios
from ..run import environment
from ..speed.folders import check_folder, checkpoint_folder
from ..speed.sides import THEIRS, diffusers_module
from ..speed.task import Task, task_for
from .measure import PeerBench, Row
from .methods import Methods, transformer_methods, unet_methods
from .settings import Peers

_FILES: Final = ("peers.json", "peers.md")
_CALIBRATION_PROMPTS: Final = ["fire", "tree"]


def run_peers(peers: Peers, out: Path, *, device: torch.device, dtype: torch.dtype) -> str:
    """Measures, and writes peers.json (every number) and peers.md (the table).

    Args:
        peers: What is measured.
        out: Folder for the files.
        device: Where the networks run.
        dtype: Type of the weights.

    Returns:
        Contents of peers.md.

    Raises:
        ValueError: If the settings do not fit the model. Nothing has been measured yet.
        ImportError: If Diffusers is not installed.
        FileExistsError: If the folder holds results.
    """
    peers.check()
    check_folder(out, _FILES)
    about = {**environment.identity(device, dtype), **environment.session(device)}
    about["diffusers"] = diffusers_module().__version__
    with TemporaryDirectory() as scratch:
        folder = checkpoint_folder(peers.model, Path(scratch), scratch, dtype)
        pipe = Pipeline.from_pretrained(folder, dtype=dtype, device=device)
        task = task_for(pipe, len(peers.prompts), peers.steps, None, peers.guidance, peers.solver)
        task = replace(task, prompts=peers.prompts)
        bench, methods = PeerBench(folder, task, dtype, device), _methods(pipe, task)
        runs = (peers.rounds + 1) * (len(methods.theirs) + len(methods.ours)) + 2 * peers.rounds
        with counting_bar(runs, label=peers.model, unit="run", leave=False) as advance:
            rows = bench.measure(methods, peers.rounds, advance)
        difference = bench.difference()
    settings = {**asdict(peers), "guidance": task.guidance}
    results = {"environment": about, "settings": settings, "difference": difference, "rows": [*map(asdict, rows)]}
    text = markdown(results, rows)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / _FILES[0], json.dumps(results, indent=1).encode())
    write_atomically(out / _FILES[1], text.encode())
    return text


def _methods(pipe: Pipeline, task: Task) -> Methods:
    if not isinstance(pipe.family, Flux | StableDiffusion):
        raise ValueError(f"{pipe.name}: peers are measured on Stable Diffusion's U-Nets and on Flux only")
    if not isinstance(pipe.family, Flux):
        return unet_methods()
    solver = pipe.solver(task.solver, task.steps)
    denoise = pipe.denoiser(solver, Request(_CALIBRATION_PROMPTS, guidance=task.guidance))
    seeds = range(len(_CALIBRATION_PROMPTS))
    noise = initial_noise(tuple(task.noise.shape[1:]), list(seeds)).to(pipe.device)
    return transformer_methods(task.steps, magcache_ratios(solver, denoise, noise))


def markdown(results: dict[str, Any], rows: Sequence[Row]) -> str:
    """Returns the table of all rows, under a line that says how they were measured."""
    return "\n".join(_lines(results, rows)) + "\n"


def _lines(results: dict[str, Any], rows: Sequence[Row]) -> Iterator[str]:
    about, settings = results["environment"], results["settings"]
    versions = ", ".join(f"{name} {about[name]}" for name in ("sadaflow", "torch", "diffusers"))
    yield (
        f"{settings['model']}, {settings['steps']} steps of {settings['solver'] or 'its own solver'}, guidance "
        f"{settings['guidance']:g}, {len(settings['prompts'])} prompts, {settings['rounds']} rounds; {versions}; "
        f"{about['hardware']}, {about['device']}, {about['dtype']}, {about['threads']} threads; "
        f"code {about['source']}. Plain latents of both sides differ by {results['difference']:.1g} at most."
    )
    yield ""
    yield "| | package | share of multiplications | seconds, of plain | PSNR, mean | worst |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        package = row.package if row.side == THEIRS else "sadaflow"
        name = row.name if row.side == THEIRS else f"`{row.name}`"
        if row.note is not None:
            yield f"| {name} | {package} | {row.note} | | | |"
            continue
        yield (
            f"| {name} | {package} | {row.cost:.2f} | {row.seconds:.2f} | {mean(row.psnr):.1f} | {min(row.psnr):.1f} |"
        )
