"""The commands `bench` and `bench speed`."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer

from ..bench import load_suite, run_bench
from ..bench.speed import run_speed
from ..generation.batches import threads
from ..generation.workers import Shard
from ..pipeline.inputs import read_dtype
from .flags import Config, Debug, Device, Dtype, chosen_device
from .load import quiet_libraries
from .parsers import text
from .speed_options import SpeedOptions
from .terminal import say, say_line


@dataclass(frozen=True)
class BenchOptions:
    """The flags in the order in which --help shows them."""

    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Name of a suite (sadaflow list suites), or TOML file.")]
    out: Annotated[Path, text("FOLDER", "Folder for measurements, tables and pictures.")]
    resume: Annotated[bool, typer.Option("--resume", help="Continue the folder where it stopped.")] = False
    timing: Annotated[bool, typer.Option("--timing", help="Measure seconds, on an idle machine.")] = False
    prompts: Annotated[
        Path | None, text("FILE", "Prompts in place of the suite's: .txt, .jsonl, .csv, .tsv or COCO's .json.")
    ] = None
    device: Device = None
    dtype: Dtype = "float32"
    config: Config = None
    debug: Debug = False


def run(options: BenchOptions) -> None:
    """Measure accelerators and naive baselines on a suite: fidelity over cost, or seconds with --timing.

    To compare seconds and memory with Diffusers, use: sadaflow bench speed.
    """
    shard, kind = Shard.current(), read_dtype(options.dtype)
    chosen, where = load_suite(options.suite, options.prompts), chosen_device(shard.device(options.device))
    quiet_libraries()
    how: dict[str, Any] = {"resume": options.resume, "timing": options.timing, "say": say_line}
    say(run_bench(chosen, options.out, device=where, dtype=kind, shard=shard, **how))


def speed(options: SpeedOptions) -> None:
    """Measure seconds and memory of sadaflow and Diffusers on the same checkpoint, on an idle machine.

    A model is a Hub id, a folder, an embedded checkpoint, or random weights: random-sd21, random-sdxl, random-flux, and
    random-flux/4 with a quarter of the channels and layers.
    """
    device, dtype, chosen = chosen_device(options.device), read_dtype(options.dtype), options.speed()
    quiet_libraries()
    with TemporaryDirectory() as passing, threads(options.threads or torch.get_num_threads()):
        say(run_speed(chosen, options.out, options.cache or Path(passing), device=device, dtype=dtype))
