"""The commands of `sadaflow`: flags in, files and tables out. What they compute lives elsewhere."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from typer.core import TyperGroup

from .. import __version__
from ..accelerators.default import DEFAULT, refusal
from ..bench import load_suite, run_bench
from ..bench.speed import run_speed
from ..compare.comparison import compare, table
from ..families import FAMILIES, AudioFamily
from ..families.request import Settings
from ..files.atomic import check_target
from ..files.images import read_image, to_image
from ..files.metadata import Recipe
from ..files.png import write_png
from ..files.wav import write_wav
from ..generation.batches import threads
from ..generation.workers import Shard
from ..loading.embedded import embedded
from ..loading.export import export_checkpoint
from ..loading.hub.locate import locate_lora
from ..loading.json_file import read_object
from ..pipeline.inputs import read_dtype
from ..pipeline.inspection import describe, inspect
from ..pipeline.pipeline import Pipeline
from .generate_many import generate_many
from .options import Debug, Device, Dtype, GenerateOptions, Options, Revision, Variant, chosen_device
from .parsers import with_options
from .speed_options import SpeedOptions

STEPS, SOLVER = 50, "dpmpp2m"  # where neither flag nor checkpoint names any
CONDITIONING = (
    "original_size", "crop", "target_size", "negative_original_size", "negative_crop", "negative_target_size",
    "aesthetic_score", "negative_aesthetic_score",
)  # fmt: skip


class _Words(TyperGroup):
    """Commands may have names of two words: `bench speed` is one, and `bench` followed by anything else another."""

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
    """Keeps `generate` a subcommand whatever their number."""


@app.command()
@with_options
def generate(options: GenerateOptions) -> None:
    """Write one picture (PNG) or sound (WAV) per prompt, with the recipe of the run in the file.

    Several prompts number the file: FILE-1, FILE-2. Thousands come from a file and fill a folder, on any number of
    processes under torchrun: --prompts FILE --out FOLDER.
    """
    options.check()
    ending = _ending(options)
    if options.prompts is not None:
        _check_seconds(options, ending)
        generate_many(options, _loaded)
        return
    outs = _targets(options, ending)
    pipe, settings, recipe = _loaded(options)
    if ending is None:
        ending = ".wav" if isinstance(pipe.family, AudioFamily) else ".png"
        outs = _targets(options, ending)
    prompts = list(options.prompt or ())
    call = {**settings.call(), "output": "audio"} if ending == ".wav" else settings.call()
    made = pipe(prompts, steps=settings.steps, accelerator=recipe.accelerator, **call)
    for i, path in enumerate(outs):
        height, width = made.images.shape[-2:]
        nfe, modes = made.stats.nfe[i], made.stats.modes[i]
        own = replace(
            recipe, prompt=prompts[i], negative_prompt=settings.negative_of(i), width=width, height=height, nfe=nfe,
            modes=tuple(modes),
        )  # fmt: skip
        if made.audio is None or made.sample_rate is None:
            write_png(path, to_image(made.images[i]), own.chunks(), options.overwrite)
        else:
            write_wav(path, made.audio[i], made.sample_rate, own.to_json(), options.overwrite)
        typer.echo(f"{path}: {settings.steps} steps, {nfe:g} of {len(modes)} evaluations")
    typer.echo(f"{made.stats.seconds:.2f} s of sampling")


@app.command("compare")
@with_options
def compare_(options: Options) -> None:
    """Sample plainly, accelerated, and in the plain rivals' ways; print a table and write two pictures.

    The first shows what was made, of sounds the log-mel spectrograms; the second, FILE-trajectory.png, criterion, mode
    and error of every step.
    """
    # These need matplotlib, which is slow to import.
    from ..compare.image_figure import draw
    from ..compare.sound_figure import draw_sound
    from ..compare.trajectory_figure import draw_trajectory

    if options.accelerate == "none":
        raise ValueError("compare needs an accelerator beside the plain run; --accelerate none is for generate")
    options.check()
    out = options.out or Path("compare.png")
    trajectory = out.with_stem(f"{out.stem}-trajectory")
    for path in (out, trajectory):
        check_target(path, options.overwrite)
    _check_seconds(options, _ending(options))
    pictures = [read_image(path) for path in options.control or ()]
    pipe = _load(options)
    settings, prompts = _settings(options, pipe, pictures), list(options.prompt or ())
    accelerator = _accelerator(options, pipe, settings)
    comparison = compare(pipe, prompts, settings, accelerator, notify=_notify, trace=True)
    height, width = comparison.plain.images.shape[-2:]
    fast = comparison.accelerated
    recipe = replace(
        _recipe(pipe, options, settings, accelerator), prompt="\n".join(prompts), width=width, height=height,
        nfe=sum(fast.nfe) / len(prompts), modes=tuple(" ".join(modes) for modes in fast.modes),
    )  # fmt: skip
    caption = (
        f"{recipe.model}, {settings.steps} steps, solver {settings.solver}, guidance {settings.guidance:g}, "
        f"seed {settings.seed}"
    )
    if isinstance(pipe.family, AudioFamily):
        picture = draw_sound(comparison, pipe.family.frame_seconds, caption)
    else:
        picture = draw(comparison, caption, pictures)
    write_png(out, picture, recipe.chunks(), options.overwrite)
    write_png(trajectory, draw_trajectory(comparison, caption), recipe.chunks(), options.overwrite)
    typer.echo(table(comparison))
    typer.echo(f"{out}: plain, {comparison.accelerator}, difference, and the mode of every step")
    typer.echo(f"{trajectory}: criterion, mode and error of every step")


@app.command()
def bench(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Name of a shipped suite, or a TOML file.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for measurements, tables and pictures.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue the folder where it stopped.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="Measure seconds, on an idle machine.")] = False,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts in place of the suite's: .txt, .jsonl, .csv, or MS-COCO's .json."),
    ] = None,
    device: Device = None,
    dtype: Dtype = "float32",
    debug: Debug = False,
) -> None:
    """Measure accelerators and plain rivals on a suite: fidelity over cost, or with --timing seconds.

    Seconds and memory beside Diffusers are another command: sadaflow bench speed.
    """
    shard = Shard.current()
    chosen, where, kind = load_suite(suite, prompts), chosen_device(shard.device(device)), read_dtype(dtype)
    _hush()
    typer.echo(run_bench(chosen, out, resume=resume, timing=timing, device=where, dtype=kind, shard=shard))


@app.command("bench speed")
@with_options
def bench_speed(options: SpeedOptions) -> None:
    """Measure seconds and memory side by side with Diffusers on the same checkpoint, on an idle machine.

    A model is a Hub id, a folder, an embedded checkpoint, or random weights: random-sd21, random-sdxl, random-flux, and
    random-flux/4 with a quarter of the channels and layers.
    """
    device, dtype, speed = chosen_device(options.device), read_dtype(options.dtype), options.speed()
    _hush()
    with TemporaryDirectory() as passing, threads(options.threads or torch.get_num_threads()):
        typer.echo(run_speed(speed, options.out, options.cache or Path(passing), device=device, dtype=dtype))


@app.command("inspect")
def inspect_(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Hub id, folder, or name of an embedded checkpoint.",
            show_default="the embedded tiny-sd",
        ),
    ] = None,
    revision: Revision = None,
    variant: Variant = None,
    debug: Debug = False,
) -> None:
    """Show what a checkpoint holds and what of it would be downloaded, without loading weights."""
    _hush()
    typer.echo(describe(inspect(model, revision=revision, variant=variant)))


@app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of an embedded checkpoint.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder to write.")],
    debug: Debug = False,
) -> None:
    """Write an embedded checkpoint to a new folder, complete, as Diffusers loads it."""
    typer.echo(f"{export_checkpoint(name, folder)}: {name} with all its components")


def _ending(options: Options) -> str | None:
    """That of what the checkpoint makes: pictures or sound. None where only its download will tell."""
    if options.single_file:
        return ".png"
    index = Path(embedded(options.model)) / "model_index.json"
    if not index.is_file():
        return None
    kind = FAMILIES.get(str(read_object(index).get("_class_name")))
    return ".wav" if hasattr(kind, "waveform") else ".png"


def _targets(options: Options, ending: str | None) -> list[Path]:
    """The files to write, one for each prompt. Raises as `check_target`."""
    out = options.out
    if ending is None:
        if out is None:
            return []
        ending = out.suffix.lower() if out.suffix.lower() in (".png", ".wav") else ".png"
    elif out is not None and {out.suffix.lower(), ending} == {".png", ".wav"}:
        what = "sound, which is written to .wav" if ending == ".wav" else "pictures, which are written to .png"
        raise ValueError(f"output file '{out}' does not fit: the checkpoint makes {what}")
    _check_seconds(options, ending)
    out, count = out or Path(f"sadaflow{ending}"), len(options.prompt or ())
    outs = [out] if count == 1 else [out.with_stem(f"{out.stem}-{i + 1}") for i in range(count)]
    for path in outs:
        check_target(path, options.overwrite, ending)
    return outs


def _check_seconds(options: Options, ending: str | None) -> None:
    if options.seconds is not None and ending == ".png":
        raise ValueError(f"--seconds {options.seconds:g} is a length of sound, and what is made are pictures")


def _loaded(options: Options) -> tuple[Pipeline, Settings, Recipe]:
    """The pipeline, what it is asked for, and the recipe that all files share."""
    pictures = [read_image(path) for path in options.control or ()]
    pipe = _load(options)
    settings = _settings(options, pipe, pictures)
    return pipe, settings, _recipe(pipe, options, settings, _accelerator(options, pipe, settings))


def _accelerator(options: Options, pipe: Pipeline, settings: Settings) -> str | None:
    """The accelerator that was asked for; else the default, or none with a note where it does not fit."""
    if options.accelerate is not None:
        return options.accelerator
    solver = pipe.solver(
        settings.solver, settings.steps, settings.grid, height=settings.height, width=settings.width
    )  # fmt: skip
    reason = refusal(DEFAULT, solver)
    if reason is None:
        return DEFAULT
    if Shard.current().leads:
        typer.echo(f"note: sampled without an accelerator, since {reason.partition(';')[0]}", err=True)
    return None


def _load(options: Options) -> Pipeline:
    """The pipeline with its LoRAs; whatever is small is fetched before what is large."""
    where = chosen_device(options.device)
    _hush()
    loras = [locate_lora(name) for name in options.lora or ()]
    how: dict[str, Any] = {"dtype": read_dtype(options.dtype), "device": where}
    how |= options.given("revision", "variant", "controlnet", "tokenizer", "base", "prediction")
    how |= options.given("offload", "tile", "quantize")
    load = Pipeline.from_single_file if options.single_file else Pipeline.from_pretrained
    pipe = load(options.model, **how)  # type: ignore[arg-type]  # None is no single file
    for path, scale in zip(loras, options.lora_scales, strict=True):
        pipe.load_lora(path, scale)
    return pipe


def _settings(options: Options, pipe: Pipeline, pictures: Sequence[Any]) -> Settings:
    """What was asked for, and where nothing was, what the checkpoint recommends."""
    arguments = options.given(
        "control_scale", "control_start", "control_end", "true_guidance", "max_sequence_length", "seconds",
        *CONDITIONING,
    )  # fmt: skip
    for name, value in arguments.items():
        if isinstance(value, list) and len(value) == 1:
            arguments[name] = value[0]
    recommended = pipe.recommended
    return Settings(
        steps=options.steps or recommended.steps or STEPS,
        solver=options.solver or recommended.solver or SOLVER,
        grid=options.grid,
        guidance=pipe.default_guidance if options.guidance is None else options.guidance,
        seed=options.seed,
        negative_prompt=options.negative_prompt,
        height=options.height,
        width=options.width,
        arguments=arguments | ({"control": list(pictures)} if pictures else {}),
    )


def _hush() -> None:
    """The other libraries' chatter while loading: their errors reach us as exceptions, their bars only a terminal.

    torchao's is that of transformers too, which imports it where it is installed.
    """
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    for library in ("huggingface_hub", "transformers", "matplotlib", "torchao", "torch.utils._pytree"):
        logging.getLogger(library).setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    if not sys.stderr.isatty():
        disable_progress_bars()


def _recipe(pipe: Pipeline, options: Options, settings: Settings, accelerator: str | None) -> Recipe:
    """What all files of a run share. A Hub snapshot's folder is named by its commit, which belongs in the recipe."""
    commit = len(pipe.name) == 40 and all(digit in "0123456789abcdef" for digit in pipe.name)
    further = options.given(
        "controlnet", "control", "control_scale", "control_start", "control_end", "lora", "lora_scale", "seconds",
        "true_guidance", "max_sequence_length", "variant", "tokenizer", "base", "prediction",
        "tile", "quantize", *CONDITIONING,
    )  # fmt: skip
    negative = options.negative_prompt
    return Recipe(
        prompt="",
        negative_prompt="\n".join(negative) if isinstance(negative, list) else negative,
        model=f"{options.model}@{pipe.name}" if commit else pipe.name,
        steps=settings.steps,
        solver=settings.solver,
        grid=options.grid,
        guidance=settings.guidance,
        seed=settings.seed,
        width=settings.width or 0,
        height=settings.height or 0,
        accelerator=accelerator,
        options=further | ({} if options.dtype == "float32" else {"dtype": options.dtype}),
        versions={"sadaflow": __version__, "torch": torch.__version__},
    )


def _notify(what: str) -> None:
    if sys.stderr.isatty():
        typer.echo(what, err=True)
