"""The flags of `generate`, `compare` and `explore`, and the checks that need no checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from sadaflow.solvers.names.settings import nearest

from ..families import FAMILIES
from ..families.argument import arguments
from ..families.base import reads_prompts
from ..families.control_options import ControlOptions
from ..families.request import Request
from ..families.single_file import layout_of_checkpoint
from ..loading.embedded import embedded
from ..loading.hub.locate import is_file_name
from ..loading.json_file import read_object
from ..loading.single_file.layout import SingleFile
from ..pipeline.control import as_list, per_net
from ..pipeline.inputs import read_dtype
from ..pipeline.picture_files import check_files, files_of
from ..placement.offload import OFFLOADS
from ..placement.quantization import QUANTIZATIONS
from .flags import Config, Debug, Device, DryRun, Dtype, Names, Numbers, Revision, Variant, chosen_device
from .help import ADAPTERS, BASICS, LOADING, MEMORY
from .parsers import count, real, text
from .request_flags import request_flags

_basic, _adapter, _loading, _memory = (
    partial(text, rich_help_panel=group) for group in (BASICS, ADAPTERS, LOADING, MEMORY)
)


@dataclass(frozen=True)
class Options:
    """The flags in the order in which --help shows them; None and empty lists are flags that were not given.

    Attributes:
        request: The arguments of the call; `control` are names of files.
    """

    model: Annotated[
        str | None,
        _basic("NAME", "Hub id, folder, embedded checkpoint or .safetensors file.", show_default="tiny-sd"),
    ] = None
    out: Annotated[
        Path | None,
        _basic("FILE", "File to write.", show_default="sadaflow.png, .wav or .mp4; compare.png; explore.html"),
    ] = None
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files.", rich_help_panel=BASICS)
    ] = False
    request: Annotated[Request, request_flags()] = Request()
    controlnet: Annotated[Names, _adapter("NAME", "ControlNet: Hub id, folder, file or embedded name. Repeatable.")] = (
        None
    )
    vae: Annotated[str | None, _loading("NAME", "Autoencoder in place of the model's.")] = None
    lora: Annotated[Names, _adapter("NAME", "LoRA to merge: file, folder or Hub id. Repeatable.")] = None
    lora_scale: Annotated[
        Numbers, real("Scale of the LoRAs: one for all, or one for each.", rich_help_panel=ADAPTERS)
    ] = None
    embedding: Annotated[Names, _adapter("NAME", "Textual inversion: file, folder or Hub id. Repeatable.")] = None
    embedding_token: Annotated[
        Names, _adapter("WORD", "Words of the embeddings, in order.", show_default="those of the files")
    ] = None
    scheduler: Annotated[str | None, _loading("NAME", "Scheduler config in place of the model's.")] = None
    revision: Revision = None
    variant: Variant = None
    tokenizer: Annotated[str | None, _loading("NAME", "For a single file: checkpoint with its tokenizer.")] = None
    base: Annotated[str | None, _loading("NAME", "For a single file: checkpoint with what it lacks.")] = None
    prediction: Annotated[str | None, _loading("NAME", "For a single file: epsilon or v_prediction.")] = None
    device: Device = None
    dtype: Dtype = "float32"
    offload: Annotated[
        str | None, _memory("NAME", f"Keep unused weights off the device: {', '.join(OFFLOADS)}.")
    ] = None
    tile: Annotated[int | None, count("Decode in tiles of so many pixels a side.", rich_help_panel=MEMORY)] = None
    quantize: Annotated[
        str | None, _memory("NAME", f"Hold large networks in eight bits: {', '.join(QUANTIZATIONS)}.")
    ] = None
    config: Config = None
    dry_run: DryRun = False
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
                raise ValueError(f"unknown --{name} {value!r}{nearest(value, known)}; known: {', '.join(known)}")
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
