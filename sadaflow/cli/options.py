"""The flags of `generate` and `compare`, and the checks that need no checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ..families import FAMILIES
from ..families.argument import arguments
from ..families.base import reads_prompts
from ..families.options import ControlOptions
from ..families.request import Request
from ..families.single_file import layout_of_checkpoint
from ..loading.embedded import embedded
from ..loading.hub.locate import is_file_name
from ..loading.json_file import read_object
from ..loading.single_file.layout import SingleFile
from ..pipeline.control import as_list, per_net
from ..pipeline.inputs import DTYPES, read_device, read_dtype
from ..pipeline.picture_files import check_files, files_of
from ..placement.offload import OFFLOADS
from ..placement.quantization import QUANTIZATIONS
from .invert import StartOptions, started
from .parsers import count, real, text
from .request_flags import request_flags

Device = Annotated[str | None, text("NAME", "Where the networks run.", show_default="cuda if there is one, else cpu")]
Dtype = Annotated[str, text("NAME", f"What the networks compute in: {', '.join(DTYPES)}.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Revision = Annotated[str | None, text("NAME", "Branch, tag or commit of a Hub id.")]
Checkpoint = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="Hub id, folder, or name of an embedded checkpoint.",
        show_default="the embedded tiny-sd",
    ),
]
Variant = Annotated[str | None, text("NAME", 'Variant of the weights, as in "fp16".')]

Names = list[str] | None
Numbers = list[float] | None


@dataclass(frozen=True)
class Options:
    """The flags in the order in which --help shows them; None and empty lists are flags that were not given.

    Attributes:
        request: The arguments of the call; `control` are names of files.
    """

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
            "File to write: PNG; WAV for generated sound; MP4, GIF or WebP for generated video.",
            show_default="sadaflow.png, .wav, .mp4; compare.png",
        ),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False
    request: Annotated[Request, request_flags()] = Request()
    controlnet: Annotated[
        Names, text("NAME", "ControlNet: Hub id, folder, single file or embedded name; may be repeated.")
    ] = None
    vae: Annotated[str | None, text("NAME", "Autoencoder in place of the model's: Hub id, folder or single file.")] = (
        None
    )
    lora: Annotated[
        Names, text("NAME", "LoRA to merge: file, folder, Hub id or owner/name/file.safetensors; may be repeated.")
    ] = None
    lora_scale: Annotated[Numbers, real("Scale of the LoRAs, in their order: one for all, or one for each.")] = None
    embedding: Annotated[
        Names, text("NAME", "Textual inversion, a word for prompts: file, folder or Hub id; may be repeated.")
    ] = None
    embedding_token: Annotated[
        Names, text("WORD", "Words of the embeddings, in their order.", show_default="those of the files")
    ] = None
    scheduler: Annotated[
        str | None, text("NAME", "Scheduler config in place of the model's: JSON file, folder or Hub id.")
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
        """Whether the model is named as a single file."""
        return self.model is not None and is_file_name(self.model)

    @property
    def _promptless(self) -> bool:
        """Whether the model may be one that reads no prompt: its index says so, or only its download will tell."""
        if self.single_file:
            return False
        index = Path(embedded(self.model)) / "model_index.json"
        if not index.is_file():
            return self.model is not None
        kind = FAMILIES.get(str(read_object(index).get("_class_name")))
        return kind is not None and not reads_prompts(kind)

    @property
    def pictures(self) -> list[str]:
        """Names of the files of --control."""
        return [] if self.request.control is None else as_list(self.request.control)

    @property
    def lora_scales(self) -> Sequence[float]:
        """One scale for each LoRA. Raises ValueError for a wrong number of them."""
        values, loras = self.lora_scale or [1.0], len(self.lora or ())
        _check_number("--lora-scale", len(values), "--lora", loras)
        return list(values) * loras if len(values) == 1 else values

    @property
    def embedding_tokens(self) -> Sequence[str | None]:
        """One word for each embedding, or None for that of its file. Raises ValueError for a wrong number of them."""
        words, embeddings = self.embedding_token or [], len(self.embedding or ())
        if words and len(words) != embeddings:
            raise ValueError(f"{len(words)} --embedding-token for {embeddings} --embedding: give one for each, or none")
        return words or [None] * embeddings

    def given(self, *names: str) -> dict[str, Any]:
        """Values of the flags `names` that were given, by name."""
        values = ((name, getattr(self, name)) for name in names)
        return {name: value for name, value in values if value is not None and value != []}

    def check(self) -> None:
        """Check what needs no checkpoint.

        Raises:
            ValueError: If flags do not fit each other, or a value is unknown.
        """
        if not self.request.prompts and not self._promptless:
            raise ValueError('no prompt given; name at least one, as in: sadaflow generate "red apple"')
        for name, files in files_of(self.request).items():
            if name != "image" or len(self.request.prompts) > 1:  # some checkpoints read several pictures for a prompt
                _check_number(f"--{name}", len(files), "prompts", len(self.request.prompts))
        self.check_flags()

    def check_flags(self) -> None:
        """Check everything but the prompts."""
        read_dtype(self.dtype)
        for name, known in (("offload", OFFLOADS), ("quantize", QUANTIZATIONS)):
            if (value := getattr(self, name)) is not None and value not in known:
                raise ValueError(f"unknown --{name} {value!r}; known: {', '.join(known)}")
        self._check_control()
        check_files(self.request)
        if self.lora and self.quantize is not None:
            raise ValueError("--lora cannot be merged into weights held in eight bits: leave out --quantize")
        if self.lora and self.offload == "stream" and chosen_device(self.device).type == "cpu":
            raise ValueError("--lora cannot be merged into weights read from their files: leave out --offload stream")
        if self.lora_scale and not self.lora:
            raise ValueError("--lora-scale needs a --lora")
        _ = self.lora_scales, self.embedding_tokens
        self._check_model()

    def _check_control(self) -> None:
        request, nets, pictures = self.request, len(self.controlnet or ()), len(self.pictures)
        if nets != pictures and (nets or pictures > 1):  # a network may read a single one by itself
            raise ValueError(f"{nets} --controlnet but {pictures} --control: give one picture for each ControlNet")
        given = {name: value for name, value in request.given().items() if name in arguments(ControlOptions)}
        for name, value in given.items():
            flag = f"--{name.replace('_', '-')}"
            if not nets:
                raise ValueError(f"{flag} needs a --controlnet")
            if isinstance(value, tuple):
                _check_number(flag, len(value), "--controlnet", nets)
        per_net(request.control_scale, request.control_start, request.control_end, nets)

    def _check_model(self) -> None:
        aids = self.given("tokenizer", "base", "prediction")
        if self.single_file:
            if Path(str(self.model)).is_file():  # what the file is comes before what it lacks
                layout_of_checkpoint(SingleFile(Path(str(self.model))))
            if not aids.keys() & {"tokenizer", "base"}:
                raise ValueError(
                    f"{self.model}: a single file holds no tokenizer; name a checkpoint in the Hub's layout that has "
                    "it: --tokenizer ID_OR_DIR"
                )
            if self.variant is not None:
                raise ValueError("--variant has no meaning for a single file: name the file itself")
        elif aids:
            raise ValueError(f"--{next(iter(aids))} is for single files, --model FILE.safetensors")


def _check_number(flag: str, values: int, owner: str, owners: int) -> None:
    """Check that a repeated flag has one value for all owners, or one for each."""
    if values not in (1, owners):
        raise ValueError(f"{values} {flag} for {owners} {owner}: give one for all, or one for each")


@dataclass(frozen=True)
class GenerateOptions(StartOptions, Options):
    """The flags of `generate`: those of `Options`, and prompts by the thousand."""

    prompts: Annotated[
        Path | None,
        text("FILE", "File of prompts: .txt, .jsonl, .csv or .tsv. --out is then a folder, and prompt i has seed + i."),
    ] = None
    batch: Annotated[
        int | None, count("With --prompts: number of prompts that are sampled together.", show_default="4")
    ] = None
    threads: Annotated[int | None, count("With --prompts, on a CPU: threads of each process.", show_default="1")] = None
    resume: Annotated[bool, typer.Option("--resume", help="With --prompts: continue the folder where it stopped.")] = (
        False
    )
    previews: Annotated[
        Path | None, text("FOLDER", "Folder to fill with what the picture looks like after each step, cheaply decoded.")
    ] = None
    preview_every: Annotated[
        int | None, count("With --previews: steps from one file to the next.", show_default="1")
    ] = None
    preview_decoder: Annotated[
        str | None, text("NAME", "With --previews: AutoencoderTiny to decode with: Hub id or folder.")
    ] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "request", started(self.request, self))

    def check(self) -> None:
        """Check what needs no checkpoint; see `Options.check`."""
        if self.prompts is not None and (self.invert is not None or self.noise is not None):
            raise ValueError("--invert and --noise are for the prompts of one call: leave out --prompts")
        if self.prompts is None:
            for name in self.given("batch", "threads") or (["resume"] if self.resume else []):
                raise ValueError(f"--{name} is for many prompts, --prompts FILE --out FOLDER")
            super().check()
            return
        if self.request.words is not None:
            raise ValueError("--words hold the prompts: leave out --prompts")
        if self.request.prompts:
            raise ValueError(f"prompts are given twice: {self.request.prompts[0]!r} and --prompts {self.prompts}")
        if self.out is None:
            raise ValueError("--prompts needs a folder to fill: --out FOLDER")
        if self.overwrite:
            raise ValueError("--overwrite has no meaning with --prompts: a folder is new, or continued with --resume")
        for name, number in self.given("batch", "threads").items():
            if number < 1:
                raise ValueError(f"--{name} must be at least 1, got {number}")
        if isinstance(self.request.negative_prompt, tuple):
            raise ValueError("with --prompts, negative prompts that differ stand in the file: negative_prompt")
        for name in ("image", "mask"):
            if isinstance(getattr(self.request, name), list):
                raise ValueError(f"with --prompts, pictures that differ stand in the file: {name}")
        self.check_flags()


def chosen_device(name: str | None) -> torch.device:
    """The device of that name; None is a GPU if there is one. Raises ValueError if it cannot be used here."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.empty(0, device=read_device(name, "--device ")).device  # with its number: cuda:0
