"""The commands of `sadaflow`: flags in, files and tables out. What they compute lives elsewhere."""

import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from . import __version__
from .accelerators import ACCELERATORS, make_accelerator
from .bench import load_suite, run_bench
from .compare import Settings, compare, table
from .inspection import describe, inspect
from .pipeline import Pipeline
from .png import Recipe, check_target, write_png
from .report import draw, to_image
from .solvers.registry import SOLVERS, known_solver

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

app = typer.Typer(
    name="sadaflow",
    help="Sample images from diffusion checkpoints, with stability-guided adaptive acceleration (SADA).",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number") from None


def _seed(text: str) -> int:
    seed = _whole(text)
    if not 0 <= seed < 2**63:
        raise typer.BadParameter(f"{text} is not between 0 and 2^63 - 1")
    return seed


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{text!r} is not a finite number")
    return value


Prompts = Annotated[
    list[str] | None, typer.Argument(metavar="PROMPT", help="One image or row per prompt.", show_default=False)
]
Model = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Hub id, or folder in the Hub's layout.", show_default="the embedded tiny-sd"),
]
Steps = Annotated[int, typer.Option(parser=_whole, metavar="N", help="Steps of the solver.")]
Solver = Annotated[str, typer.Option(metavar="NAME", help="Solver: " + ", ".join(SOLVERS) + ".")]
Accelerate = Annotated[str, typer.Option(metavar="NAME", help="Accelerator: " + ", ".join(ACCELERATORS) + "; or none.")]
Guidance = Annotated[
    float | None,
    typer.Option(
        parser=_number,
        metavar="G",
        help="Classifier-free guidance, 1 or less is none; of Flux.1 dev the number that it embeds.",
        show_default="the checkpoint's: 5 for tiny-sd and SDXL, else 7.5, 3.5 for Flux.1, 2 for MusicLDM",
    ),
]
Seed = Annotated[
    int, typer.Option(parser=_seed, metavar="N", help="Seed of the start noise, the same for every prompt.")
]
Negative = Annotated[str, typer.Option(metavar="TEXT", help="Negative prompt.")]
Height = Annotated[
    int | None, typer.Option(parser=_whole, metavar="N", help="Pixels.", show_default="the checkpoint's")
]
Width = Annotated[int | None, typer.Option(parser=_whole, metavar="N", help="Pixels.", show_default="the checkpoint's")]
Out = Annotated[
    Path, typer.Option(metavar="FILE", help="PNG file to write; several prompts number it: FILE-1, FILE-2.")
]
Picture = Annotated[Path, typer.Option("--out", metavar="FILE", help="PNG file to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Where the networks run.", show_default="cuda if there is one, else cpu"),
]
Dtype = Annotated[str, typer.Option(metavar="NAME", help="What the networks compute in: " + ", ".join(DTYPES) + ".")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.callback()
def _options() -> None:
    """Keeps `generate` a subcommand whatever their number."""


@app.command()
def generate(
    prompt: Prompts = None,
    model: Model = None,
    steps: Steps = 50,
    solver: Solver = "dpmpp2m",
    accelerate: Accelerate = "sada",
    guidance: Guidance = None,
    seed: Seed = 0,
    negative: Negative = "",
    height: Height = None,
    width: Width = None,
    out: Out = Path("sadaflow.png"),
    overwrite: Overwrite = False,
    device: Device = None,
    dtype: Dtype = "float32",
    debug: Debug = False,
) -> None:
    """Write one PNG file per prompt, with the recipe of the run in its text chunks."""
    prompts = list(prompt or ())
    outs = [out] if len(prompts) == 1 else [out.with_stem(f"{out.stem}-{i + 1}") for i in range(len(prompts))]
    accelerator = None if accelerate == "none" else accelerate
    _check(prompts, steps, solver, accelerator, outs, overwrite)
    pipe = _load(model, device, dtype)
    guidance = pipe.default_guidance if guidance is None else guidance
    settings = Settings(steps, solver, guidance, seed, negative, height, width)
    made = pipe(prompts, steps=steps, accelerator=accelerator, **settings.call())
    recipe = _recipe(pipe, model, settings, accelerator)
    for i, path in enumerate(outs):
        image, nfe, modes = to_image(made.images[i]), made.stats.nfe[i], made.stats.modes[i]
        own = replace(recipe, prompt=prompts[i], width=image.width, height=image.height, nfe=nfe, modes=tuple(modes))
        write_png(path, image, own.chunks(), overwrite)
        typer.echo(f"{path}: {steps} steps, {nfe:g} of {len(modes)} evaluations")
    typer.echo(f"{made.stats.seconds:.2f} s of sampling")


@app.command("compare")
def compare_(
    prompt: Prompts = None,
    model: Model = None,
    steps: Steps = 50,
    solver: Solver = "dpmpp2m",
    accelerate: Accelerate = "sada",
    guidance: Guidance = None,
    seed: Seed = 0,
    negative: Negative = "",
    height: Height = None,
    width: Width = None,
    out: Picture = Path("compare.png"),
    overwrite: Overwrite = False,
    device: Device = None,
    dtype: Dtype = "float32",
    debug: Debug = False,
) -> None:
    """Sample plainly, accelerated, and in the plain rivals' ways; print a table and write two pictures.

    The second, FILE-trajectory.png, shows criterion, mode and error of every step.
    """
    from .trajectory import draw_trajectory  # needs matplotlib, which is slow to import

    prompts = list(prompt or ())
    if accelerate == "none":
        raise ValueError("compare needs an accelerator beside the plain run; --accelerate none is for generate")
    trajectory = out.with_stem(f"{out.stem}-trajectory")
    _check(prompts, steps, solver, accelerate, [out, trajectory], overwrite)
    pipe = _load(model, device, dtype)
    guidance = pipe.default_guidance if guidance is None else guidance
    settings = Settings(steps, solver, guidance, seed, negative, height, width)
    comparison = compare(pipe, prompts, settings, accelerate, notify=_notify, trace=True)
    recipe = _recipe(pipe, model, settings, accelerate)
    height, width = comparison.plain.images.shape[-2:]
    fast = comparison.accelerated
    recipe = replace(
        recipe, prompt="\n".join(prompts), width=width, height=height, nfe=sum(fast.nfe) / len(prompts),
        modes=tuple(" ".join(modes) for modes in fast.modes),
    )  # fmt: skip
    caption = f"{recipe.model}, {steps} steps, solver {solver}, guidance {settings.guidance:g}, seed {seed}"
    write_png(out, draw(comparison, caption), recipe.chunks(), overwrite)
    write_png(trajectory, draw_trajectory(comparison, caption), recipe.chunks(), overwrite)
    typer.echo(table(comparison))
    typer.echo(f"{out}: plain | {accelerate} | difference, and the mode of every step")
    typer.echo(f"{trajectory}: criterion, mode and error of every step")


@app.command()
def bench(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Name of a shipped suite, or a TOML file.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for measurements, tables and pictures.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue the folder where it stopped.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="Measure seconds, on an idle machine.")] = False,
    device: Device = None,
    dtype: Dtype = "float32",
    debug: Debug = False,
) -> None:
    """Measure accelerators and plain rivals on a suite: fidelity over cost, or with --timing seconds."""
    chosen, where, kind = load_suite(suite), _device(device), _dtype(dtype)
    _hush()
    typer.echo(run_bench(chosen, out, resume=resume, timing=timing, device=where, dtype=kind))


@app.command("inspect")
def inspect_(
    model: Annotated[
        str | None, typer.Argument(metavar="ID_OR_DIR", help="Hub id or folder.", show_default="the embedded tiny-sd")
    ] = None,
    revision: Annotated[str | None, typer.Option(metavar="NAME", help="Branch, tag or commit of the id.")] = None,
    variant: Annotated[str | None, typer.Option(metavar="NAME", help='Variant of the weights, as in "fp16".')] = None,
    debug: Debug = False,
) -> None:
    """Show what a checkpoint holds and what of it would be downloaded, without loading weights."""
    _hush()
    typer.echo(describe(inspect(model, revision=revision, variant=variant)))


def _check(
    prompts: Sequence[str], steps: int, solver: str, accelerator: str | None, outs: Sequence[Path], overwrite: bool
) -> None:
    """Everything that can be refused before a model is loaded."""
    if not prompts:
        raise ValueError('no prompt given; name at least one, as in: sadaflow generate "red apple"')
    if steps < 1:
        raise ValueError(f"--steps must be at least 1, got {steps}")
    known_solver(solver)
    if accelerator is not None:
        make_accelerator(accelerator)
    for path in outs:
        check_target(path, overwrite)


def _load(model: str | None, device: str | None, dtype: str) -> Pipeline:
    kind, where = _dtype(dtype), _device(device)
    _hush()
    return Pipeline.from_pretrained(model, device=where, dtype=kind)


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; known: {', '.join(DTYPES)}")
    return DTYPES[name]


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # the latter where torch is built without CUDA
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {name!r} cannot be used here ({reason}); cpu always can") from error


def _hush() -> None:
    """The other libraries' chatter while loading: their errors reach us as exceptions, their bars only a terminal."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    for library in ("huggingface_hub", "transformers", "matplotlib"):
        logging.getLogger(library).setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    if not sys.stderr.isatty():
        disable_progress_bars()


def _recipe(pipe: Pipeline, model: str | None, settings: Settings, accelerator: str | None) -> Recipe:
    """What all files of a run share. A Hub snapshot's folder is named by its commit, which belongs in the recipe."""
    commit = len(pipe.name) == 40 and all(digit in "0123456789abcdef" for digit in pipe.name)
    return Recipe(
        prompt="",
        negative_prompt=settings.negative_prompt,
        model=f"{model}@{pipe.name}" if commit else pipe.name,
        steps=settings.steps,
        solver=settings.solver,
        guidance=settings.guidance,
        seed=settings.seed,
        width=settings.width or 0,
        height=settings.height or 0,
        accelerator=accelerator,
        versions={"sadaflow": __version__, "torch": torch.__version__},
    )


def _notify(what: str) -> None:
    if sys.stderr.isatty():
        typer.echo(what, err=True)
