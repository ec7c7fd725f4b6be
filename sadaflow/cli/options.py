"""What `generate` and `compare` may be asked for, once for both, and what of it can be refused before loading."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ..accelerators import ACCELERATORS, make_accelerator
from ..accelerators.default import DEFAULT
from ..pipeline.control import per_net
from ..pipeline.inputs import DTYPES, read_device, read_dtype
from ..placement.offload import OFFLOADS
from ..placement.quantization import QUANTIZATIONS
from ..solvers.registry import SOLVERS, known_solver
from ..solvers.spacing import RAMPS, SPACINGS
from .parsers import _seed, count, pair, real, text

SINGLE_FILES = (".safetensors", ".sft")
GRIDS = (*SPACINGS, *RAMPS)


Device = Annotated[str | None, text("NAME", "Where the networks run.", show_default="cuda if there is one, else cpu")]
Dtype = Annotated[str, text("NAME", f"What the networks compute in: {', '.join(DTYPES)}.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Revision = Annotated[str | None, text("NAME", "Branch, tag or commit of a Hub id.")]
Variant = Annotated[str | None, text("NAME", 'Variant of the weights, as in "fp16".')]


Names = list[str] | None
Numbers = list[float] | None
Pair = tuple[int, int] | None


@dataclass(frozen=True)
class Options:
    """The flags in the order in which --help shows them; None and empty lists are flags not given."""

    prompt: Annotated[Names, typer.Argument(metavar="PROMPT", help="One image, sound or row per prompt.")] = None
    model: Annotated[
        str | None,
        text(
            "NAME",
            "Hub id, folder in the Hub's layout, name of an embedded checkpoint, or single .safetensors file.",
            show_default="the embedded tiny-sd",
        ),
    ] = None
    out: Annotated[
        Path | None,
        text(
            "FILE",
            "File to write: PNG, or WAV for generated sound.",
            show_default="sadaflow.png, sadaflow.wav; compare.png",
        ),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False
    steps: Annotated[int | None, count("Steps of the solver.", show_default="the checkpoint's, or 50")] = None
    solver: Annotated[
        str | None, text("NAME", f"Solver: {', '.join(SOLVERS)}.", show_default="the checkpoint's, or dpmpp2m")
    ] = None
    grid: Annotated[str | None, text("NAME", f"Time grid: {', '.join(GRIDS)}.", show_default="the checkpoint's")] = None
    accelerate: Annotated[
        str | None,
        text(
            "NAME",
            f"Accelerator: {', '.join(ACCELERATORS)}; or none.",
            show_default=f"{DEFAULT}, or none where the steps are too few for it",
        ),
    ] = None
    guidance: Annotated[
        float | None,
        real(
            "Classifier-free guidance, 1 or less is none; of Flux.1 dev the number that it embeds.",
            show_default="the checkpoint's, or 7.5; 5 for SDXL, 3.5 for Flux.1, 2 for MusicLDM",
        ),
    ] = None
    seed: Annotated[
        int, typer.Option(parser=_seed, metavar="N", help="Seed of the start noise, the same for every prompt.")
    ] = 0
    negative: Annotated[
        Names, text("TEXT", "Negative prompt: one for all prompts, or repeated, one for each in order.")
    ] = None
    height: Annotated[int | None, count("Pixels.", show_default="the checkpoint's")] = None
    width: Annotated[int | None, count("Pixels.", show_default="the checkpoint's")] = None
    seconds: Annotated[float | None, real("Length of a sound.", show_default="the checkpoint's")] = None
    controlnet: Annotated[Names, text("NAME", "ControlNet: Hub id, folder or embedded name; may be repeated.")] = None
    control: Annotated[
        Names, text("FILE", "Picture that a ControlNet is shown, stretched to the size made; one for each, in order.")
    ] = None
    control_scale: Annotated[Numbers, real("Weight of the ControlNets: one for all, or one for each.")] = None
    control_start: Annotated[Numbers, real("Where they begin to act, as a fraction of the steps.")] = None
    control_end: Annotated[Numbers, real("Where they cease to act, likewise.")] = None
    lora: Annotated[
        Names, text("NAME", "LoRA to merge: file, folder, Hub id or owner/name/file.safetensors; may be repeated.")
    ] = None
    lora_scale: Annotated[Numbers, real("Scale of the LoRAs, in their order: one for all, or one for each.")] = None
    true_guidance: Annotated[
        float | None, real("On Flux.1: guidance by the negative prompt, at twice the cost.")
    ] = None
    max_sequence_length: Annotated[int | None, count("On Flux.1: tokens of the T5 prompt.")] = None
    original_size: Annotated[
        Pair, pair("HEIGHT WIDTH", "what the network is told of the size before scaling.", "the size made")
    ] = None
    crop: Annotated[Pair, pair("TOP LEFT", "what it is told of the corner cut at.", "0 0")] = None
    target_size: Annotated[Pair, pair("HEIGHT WIDTH", "what it is told of the size wanted.", "the size made")] = None
    negative_original_size: Annotated[Pair, pair("HEIGHT WIDTH", "the same for the negative branch.")] = None
    negative_crop: Annotated[Pair, pair("TOP LEFT", "the same for the negative branch.")] = None
    negative_target_size: Annotated[Pair, pair("HEIGHT WIDTH", "the same for the negative branch.")] = None
    aesthetic_score: Annotated[
        float | None, real("On SDXL's refiner: what it is told of the picture's score.", show_default="6")
    ] = None
    negative_aesthetic_score: Annotated[
        float | None, real("On SDXL's refiner: the same for the negative branch.", show_default="2.5")
    ] = None
    revision: Revision = None
    variant: Variant = None
    tokenizer: Annotated[str | None, text("NAME", "For a single file: checkpoint with its tokenizer.")] = None
    base: Annotated[str | None, text("NAME", "For a single file: checkpoint with whatever it lacks.")] = None
    prediction: Annotated[str | None, text("NAME", "For a single file: epsilon or v_prediction.")] = None
    device: Device = None
    dtype: Dtype = "float32"
    offload: Annotated[
        str | None, text("NAME", f"Keep out of the device's memory what is not in use: {', '.join(OFFLOADS)}.")
    ] = None
    tile: Annotated[int | None, count("Side in pixels of the tiles in which large pictures are decoded.")] = None
    quantize: Annotated[
        str | None, text("NAME", f"Hold the large networks' weights in eight bits: {', '.join(QUANTIZATIONS)}.")
    ] = None
    debug: Debug = False

    @property
    def single_file(self) -> bool:
        return self.model is not None and self.model.endswith(SINGLE_FILES)

    @property
    def accelerator(self) -> str | None:
        """The accelerator that was asked for, or the default."""
        return None if self.accelerate == "none" else self.accelerate or DEFAULT

    @property
    def negative_prompt(self) -> str | list[str] | None:
        """The negative prompt of all prompts, or the list of those of each."""
        given = self.negative or []
        return list(given) if len(given) > 1 else given[0] if given else None

    @property
    def lora_scales(self) -> Sequence[float]:
        return _one_for_each("--lora-scale", self.lora_scale, "--lora", self.lora)

    def given(self, *names: str) -> dict[str, Any]:
        """Of the flags `names` those that were given, by name."""
        values = ((name, getattr(self, name)) for name in names)
        return {name: value for name, value in values if value is not None and value != []}

    def check(self) -> None:
        """Raise ValueError for what no checkpoint could honour."""
        if not self.prompt:
            raise ValueError('no prompt given; name at least one, as in: sadaflow generate "red apple"')
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"--steps must be at least 1, got {self.steps}")
        negatives, prompts = len(self.negative or ()), len(self.prompt)
        if negatives not in (0, 1, prompts):
            raise ValueError(f"{negatives} --negative for {prompts} prompts: give one for all, or one for each")
        if self.solver is not None:
            known_solver(self.solver)
        if self.accelerator is not None:
            make_accelerator(self.accelerator)
        read_dtype(self.dtype)
        for name, known in (("grid", GRIDS), ("offload", OFFLOADS), ("quantize", QUANTIZATIONS)):
            if (value := getattr(self, name)) is not None and value not in known:
                raise ValueError(f"unknown --{name} {value!r}; known: {', '.join(known)}")
        self._check_control()
        if self.lora and self.quantize is not None:
            raise ValueError("--lora cannot be merged into weights held in eight bits: leave out --quantize")
        if self.lora and self.offload == "stream" and chosen_device(self.device).type == "cpu":
            raise ValueError("--lora cannot be merged into weights read from their files: leave out --offload stream")
        if self.lora_scale and not self.lora:
            raise ValueError("--lora-scale needs a --lora")
        _ = self.lora_scales
        self._check_model()

    def _check_control(self) -> None:
        nets, pictures = len(self.controlnet or ()), len(self.control or ())
        if nets != pictures:
            raise ValueError(f"{nets} --controlnet but {pictures} --control: give one picture for each ControlNet")
        numbers = self.given("control_scale", "control_start", "control_end")
        if numbers and not nets:
            raise ValueError(f"--{next(iter(numbers)).replace('_', '-')} needs a --controlnet")
        scale, start, end = (
            _one_for_each(f"--control-{name}", values, "--controlnet", self.controlnet, default)
            for name, values, default in (
                ("scale", self.control_scale, 1.0),
                ("start", self.control_start, 0.0),
                ("end", self.control_end, 1.0),
            )
        )
        per_net(scale, start, end, nets)

    def _check_model(self) -> None:
        aids = self.given("tokenizer", "base", "prediction")
        if self.single_file:
            if not aids.keys() & {"tokenizer", "base"}:
                raise ValueError(
                    f"{self.model}: a single file holds no tokenizer; name a checkpoint in the Hub's layout that has "
                    "it: --tokenizer ID_OR_DIR"
                )
            if self.variant is not None:
                raise ValueError("--variant has no meaning for a single file: name the file itself")
        elif aids:
            raise ValueError(f"--{next(iter(aids))} is for single files, --model FILE.safetensors")


def _one_for_each(
    flag: str, values: Sequence[float] | None, owner: str, owners: Sequence[str] | None, default: float = 1.0
) -> Sequence[float]:
    """One number for each of the `owners`, from as many or a single one."""
    values, count = values or [default], len(owners or ())
    if len(values) not in (1, count):
        raise ValueError(f"{len(values)} {flag} for {count} {owner}: give one for all, or one for each")
    return list(values) * count if len(values) == 1 else values


@dataclass(frozen=True)
class GenerateOptions(Options):
    """What `generate` may be asked for beside that: prompts by the thousand."""

    prompts: Annotated[
        Path | None,
        text("FILE", "File of prompts: .txt, .jsonl or .csv. --out is then a folder, and prompt i has seed + i."),
    ] = None
    batch: Annotated[int | None, count("With --prompts: how many are sampled together.", show_default="4")] = None
    threads: Annotated[
        int | None, count("With --prompts, on a CPU: threads of each process.", show_default="1")
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="With --prompts: continue the folder where it stopped.")] = (
        False
    )

    def check(self) -> None:
        if self.prompts is None:
            for name in self.given("batch", "threads") or (["resume"] if self.resume else []):
                raise ValueError(f"--{name} is for many prompts, --prompts FILE --out FOLDER")
            super().check()
            return
        if self.prompt:
            raise ValueError(f"prompts are given twice: {self.prompt[0]!r} and --prompts {self.prompts}")
        if self.out is None:
            raise ValueError("--prompts needs a folder to fill: --out FOLDER")
        if self.overwrite:
            raise ValueError("--overwrite has no meaning with --prompts: a folder is new, or continued with --resume")
        for name, number in self.given("batch", "threads").items():
            if number < 1:
                raise ValueError(f"--{name} must be at least 1, got {number}")
        if len(self.negative or ()) > 1:
            raise ValueError("with --prompts, negative prompts that differ stand in the file: negative_prompt")
        replace(self, prompt=["of the file"], prompts=None, batch=None, threads=None, resume=False).check()


def chosen_device(name: str | None) -> torch.device:
    """The device of that name, or the default. Raises ValueError for one that cannot be used here."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.empty(0, device=read_device(name, "--device ")).device  # with its number: cuda:0
