"""The commands of `sadaflow`, from their flags to files and tables."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from typer.core import TyperGroup

from ..bench import load_suite, run_bench
from ..bench.speed import run_speed
from ..compare.comparison import Comparison, compare
from ..compare.explored import decoder, explore_comparison
from ..compare.table import table
from ..families import AudioFamily, VideoFamily
from ..families.options import PLAIN
from ..files.atomic import check_target, write_file
from ..files.metadata import Recipe
from ..files.pictures import open_picture
from ..files.png import write_png
from ..generation.batches import threads
from ..generation.outputs import Generator
from ..generation.workers import Shard
from ..guidance import guidance_text
from ..pipeline.inputs import read_accelerator, read_dtype
from ..pipeline.inspection import describe, inspect
from ..pipeline.picture_files import files_of
from .calibrate import CalibrateOptions
from .calibrate import run as run_calibrate
from .check import CheckAcceleratorOptions, CheckSolverOptions
from .check import check_accelerator as run_check_accelerator
from .check import check_solver as run_check_solver
from .export import ExportOptions
from .export import run as run_export
from .generate_many import generate_many
from .invert import run as run_invert
from .load import load_generator, quiet_libraries
from .options import Checkpoint, Debug, Device, Dtype, GenerateOptions, Options, Revision, Variant, chosen_device
from .parsers import with_options
from .previews import check_preview_flags, check_previews, preview_files
from .repeat import RepeatOptions, endings_beside, generate_options, read_recipe
from .repeat import repeat as run_repeat
from .schedule import ScheduleOptions
from .schedule import run as run_schedule
from .speed_options import SpeedOptions
from .targets import check_seconds, known_endings, targets
from .terminal import say, say_line


class _Words(TyperGroup):
    """Allows commands of two words: `bench speed` beside `bench`."""

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        name = " ".join(args[:2])
        return super().resolve_command(ctx, [name, *args[2:]] if name in self.commands else args)


app = typer.Typer(
    name="sadaflow",
    cls=_Words,
    help="Sample images and music from diffusion checkpoints, with stability-guided adaptive acceleration (SADA).",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options() -> None:
    """Makes typer keep the name of a single command."""


@app.command()
@with_options
def generate(options: GenerateOptions) -> None:
    """Write one picture (PNG), sound (WAV) or video (MP4, GIF, WebP) per prompt, with a record of the run in the file.

    Files of several prompts are numbered: FILE-1, FILE-2. For thousands of prompts, name a file of prompts and a folder
    to fill, with any number of processes under torchrun: --prompts FILE --out FOLDER. --invert FILE writes the noise of
    a picture, from which --noise samples, and --edit FILE does both.
    """
    options.check()
    check_preview_flags(options)
    if options.invert is not None:
        run_invert(options, load_generator)
        return
    endings = known_endings(options)
    if options.prompts is not None:
        check_seconds(options, endings)
        generate_many(options, load_generator)
        return
    outs = targets(options, endings)
    check_previews(options, outs)
    generator = load_generator(options)
    if endings is None:
        outs = targets(options, generator.endings)
        check_previews(options, outs)
    request = generator.request
    made = generator.sample(request, observer=preview_files(options, generator.pipe, outs))
    for index, path in enumerate(outs):
        file = generator.file(made, request, index, path.suffix.lower())
        write_file(path, file.content, options.overwrite)
        say(f"{path}: {request.steps} steps, {file.recipe.nfe:g} of {len(file.recipe.modes)} evaluations")
    say(f"{made.stats.seconds:.2f} s of sampling")


@app.command()
@with_options
def repeat(options: RepeatOptions) -> None:
    """Make a picture, sound or video again from the record in its file, to the bit on the same machine and versions.

    Solver and accelerator have all the settings that they had, whatever their names stand for now.
    """
    recipe = read_recipe(options.file)
    flags = generate_options(recipe, options)
    flags.check()
    outs = targets(flags, endings_beside(options.file))
    made = run_repeat(recipe, flags, outs[0].suffix.lower())
    write_file(outs[0], made.content, options.overwrite)
    say(f"{outs[0]}: {recipe.steps} steps, {made.recipe.nfe:g} of {len(made.recipe.modes)} evaluations")


@app.command("compare")
@with_options
def compare_(options: Options) -> None:
    """Compare an accelerator with plain sampling and naive baselines: a table, two figures and a page.

    The first figure shows the pictures, the log-mel spectrograms of sounds, or frames of videos; the second,
    FILE-trajectory.png, shows criterion, mode and error of every step. FILE.html shows x0 of every step under a slider.
    """
    # These need matplotlib, which is slow to import.
    from ..compare.image_figure import draw
    from ..compare.sound_figure import draw_sound
    from ..compare.trajectory_figure import draw_trajectory
    from ..compare.video_figure import draw_videos

    if options.request.accelerator == PLAIN:
        raise ValueError("compare needs an accelerator beside the plain run; --accelerate none is for generate")
    options.check()
    out = options.out or Path("compare.png")
    trajectory = out.with_stem(f"{out.stem}-trajectory")
    page = out.with_suffix(".html")
    for path in (out, trajectory, page):
        check_target(path, options.overwrite, ".html" if path == page else ".png")
    check_seconds(options, known_endings(options))
    generator = load_generator(options)
    pipe, request = generator.pipe, generator.request
    beside = () if request.accelerator == "sada" else ("sada",)
    chosen = read_accelerator(request) if request.speedup else request.accelerator
    comparison = compare(pipe, request.prompts, request, chosen, notify=_notify, trace=True, beside=beside)
    caption = (
        f"{generator.model}, {request.steps} steps, solver {request.solver}, "
        f"guidance {guidance_text(request.known_guidance)}, seed {request.seed}"
    )
    if isinstance(pipe.family, AudioFamily):
        picture = draw_sound(comparison, pipe.family.frame_seconds, caption)
    elif isinstance(pipe.family, VideoFamily):
        picture = draw_videos(comparison, caption)
    else:
        shown = {"image": "input", "mask": "mask"}
        inputs = {shown[name]: [open_picture(file) for file in files] for name, files in files_of(request).items()}
        picture = draw(comparison, caption, request.control or (), inputs)
    text = _recipe(generator, comparison).chunks()
    write_png(out, picture, text, options.overwrite)
    write_png(trajectory, draw_trajectory(comparison, caption), text, options.overwrite)
    write_file(page, explore_comparison(comparison, caption, decoder(pipe)).encode(), options.overwrite)
    say(table(comparison))
    say(f"{out}: plain, {comparison.accelerator}, difference, and the mode of every step")
    say(f"{trajectory}: criterion, mode and error of every step")
    say(f"{page}: all of it with a slider over the steps, for a browser")


@app.command()
def bench(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Name of a shipped suite, or a TOML file.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for measurements, tables and pictures.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue the folder where it stopped.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="Measure seconds, on an idle machine.")] = False,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts in place of the suite's: .txt, .jsonl, .csv, .tsv or COCO's .json."),
    ] = None,
    device: Device = None,
    dtype: Dtype = "float32",
    debug: Debug = False,
) -> None:
    """Measure accelerators and naive baselines on a suite: fidelity over cost, or seconds with --timing.

    To compare seconds and memory with Diffusers, use: sadaflow bench speed.
    """
    shard = Shard.current()
    chosen, where, kind = load_suite(suite, prompts), chosen_device(shard.device(device)), read_dtype(dtype)
    quiet_libraries()
    how: dict[str, Any] = {"resume": resume, "timing": timing, "say": say_line}
    say(run_bench(chosen, out, device=where, dtype=kind, shard=shard, **how))


@app.command("bench speed")
@with_options
def bench_speed(options: SpeedOptions) -> None:
    """Measure seconds and memory of sadaflow and Diffusers on the same checkpoint, on an idle machine.

    A model is a Hub id, a folder, an embedded checkpoint, or random weights: random-sd21, random-sdxl, random-flux, and
    random-flux/4 with a quarter of the channels and layers.
    """
    device, dtype, speed = chosen_device(options.device), read_dtype(options.dtype), options.speed()
    quiet_libraries()
    with TemporaryDirectory() as passing, threads(options.threads or torch.get_num_threads()):
        say(run_speed(speed, options.out, options.cache or Path(passing), device=device, dtype=dtype))


@app.command()
@with_options
def calibrate(options: CalibrateOptions) -> None:
    """Measure how errors grow in a checkpoint and what a tolerance costs, so that --speedup keeps its word.

    It takes minutes on one device. Later runs with the same weights, solver and steps use it by themselves.
    """
    run_calibrate(options)


@app.command("check solver")
@with_options
def check_solver(options: CheckSolverOptions) -> None:
    """Measure a solver against the properties that solvers must have, and against exact references.

    The status is 1 if a property does not hold. docs/checks.md explains each of them.
    """
    run_check_solver(options)


@app.command("check accelerator")
@with_options
def check_accelerator(options: CheckAcceleratorOptions) -> None:
    """Measure an accelerator against the laws of the interface, on data whose denoiser is known exactly.

    The status is 1 if a law does not hold. docs/checks-accelerators.md explains each of them.
    """
    run_check_accelerator(options)


@app.command()
@with_options
def schedule(options: ScheduleOptions) -> None:
    """Search the set of evaluated steps that keeps most of plain samples, for the accelerator `schedule`.

    It takes minutes on one device, writes FILE after every try, and goes on from it if it is started again.
    """
    run_schedule(options)


@app.command("inspect")
def inspect_(
    model: Checkpoint = None,
    revision: Revision = None,
    variant: Variant = None,
    debug: Debug = False,
) -> None:
    """Show what a checkpoint contains and which files would be downloaded, without loading weights."""
    quiet_libraries()
    say(describe(inspect(model, revision=revision, variant=variant)))


@app.command()
@with_options
def export(options: ExportOptions) -> None:
    """Write a checkpoint to a new folder in the Hub's layout, with merged LoRAs, as Diffusers loads it."""
    quiet_libraries()
    say(run_export(options))


def _recipe(generator: Generator, comparison: Comparison) -> Recipe:
    """The record of a comparison: that of its accelerated runs, one prompt a line."""
    height, width = comparison.plain.images.shape[-2:]
    fast = comparison.accelerated
    nfe, modes = sum(fast.nfe) / len(fast.nfe), tuple(" ".join(modes) for modes in fast.modes)
    return generator.recipe(generator.request, height=height, width=width, nfe=nfe, modes=modes)


def _notify(what: str) -> None:
    if sys.stderr.isatty():
        say(what, err=True)
