"""Published checkpoints, small and with random weights: how many load, and how far their latents are from Diffusers'.

    python docs/scripts/measure_published.py

It walks the checkpoints of `tests/published`, and those in a folder of published configs where SADAFLOW_REAL_CONFIGS
names one (a folder a model, with its JSON files). It prints a table in Markdown, a row for each kind of checkpoint.
"""

import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from sadaflow import Pipeline
from sadaflow.families import FAMILIES
from support.published.compare import our_latents, reference_latents
from support.published.folders import FOLDERS
from support.published.networks import CONTROLNETS
from support.published.real import read_json, read_real, real_folders
from support.published.write import write_controlnet, write_folder, write_json

BASES = {768: "sd-1.5", 1024: "sd-2.1-base", 2048: "sdxl-base"}
KINDS = {
    "LatentConsistencyModelPipeline": "Stable Diffusion 1.x, latent consistency",
    "StableDiffusionPipeline": "Stable Diffusion 1.x, 2.x",
    "StableDiffusionXLPipeline": "Stable Diffusion XL",
    "StableDiffusionXLImg2ImgPipeline": "Stable Diffusion XL refiner",
    "FluxPipeline": "Flux.1",
    "ControlNetModel": "ControlNet",
}


class Row:
    """What was tried of one kind; `worst` is the largest relative difference of the latents."""

    def __init__(self) -> None:
        self.tried = self.loaded = self.agreed = self.refused = 0
        self.worst = 0.0


def compare(row: Row, folder: Path, **loading: Any) -> None:
    row.tried += 1
    ours = our_latents(folder, **loading)
    row.loaded += 1
    reference = reference_latents(folder, **loading)
    difference = float((ours - reference).abs().max() / reference.abs().max())
    row.agreed += difference < 1e-5
    row.worst = max(row.worst, difference)


def refuse(row: Row, folder: Path, kind: str) -> None:
    row.tried += 1
    try:
        Pipeline.from_pretrained(folder)
    except ValueError as error:
        row.refused += kind in str(error)


def controlnet(rows: dict[str, Row], config: dict[str, Any], work: Path, name: str) -> None:
    base = write_folder(work / f"{name}-base", FOLDERS[BASES[config["cross_attention_dim"]]])
    compare(rows["ControlNet"], base, controlnet=write_controlnet(work / name, config))


def measure(work: Path) -> dict[str, Row]:
    rows: dict[str, Row] = defaultdict(Row)
    pipelines = {f"ours-{name}": files for name, files in FOLDERS.items()}
    pipelines |= {folder.name: read_real(folder) for folder in real_folders()}
    for name, files in pipelines.items():
        kind = files["model_index.json"]["_class_name"]
        if kind in FAMILIES:
            compare(rows[KINDS[kind]], write_folder(work / name, files))
            continue
        for path, content in files.items():
            write_json(work / name / path, content)
        refuse(rows["pipelines of other kinds, refused by class"], work / name, kind)
    nets = {f"ours-{name}": config for name, config in CONTROLNETS.items()}
    nets |= {folder.name: read_json(folder / "config.json") for folder in real_folders("config.json")}
    for name, config in nets.items():
        if config.get("_class_name") == "ControlNetModel":
            controlnet(rows, config, work, name)
    return rows


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as work:
        rows = measure(Path(work))
    print("| checkpoints | tried | load | agree to 1e-5 | largest difference |\n|---|---|---|---|---|")
    for kind, row in rows.items():
        if row.refused:
            print(f"| {kind} | {row.tried} | {row.refused} refused | - | - |")
        else:
            print(f"| {kind} | {row.tried} | {row.loaded} | {row.agreed} | {row.worst:.1e} |")


if __name__ == "__main__":
    main()
