"""The flags of `generate`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .help import MANY, PREVIEWS
from .invert import StartOptions, started
from .options import Options
from .parsers import count, text

_many, _preview = (partial(text, rich_help_panel=group) for group in (MANY, PREVIEWS))


@dataclass(frozen=True)
class GenerateOptions(StartOptions, Options):
    """The flags of `generate`: those of `Options`, and prompts by the thousand."""

    prompts: Annotated[
        Path | None, _many("FILE", "Prompts: .txt, .jsonl, .csv or .tsv; --out is a folder, prompt i has seed + i.")
    ] = None
    batch: Annotated[
        int | None, count("Prompts that are sampled together.", show_default="4", rich_help_panel=MANY)
    ] = None
    threads: Annotated[
        int | None, count("On a CPU: threads of each process.", show_default="1", rich_help_panel=MANY)
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the folder where it stopped.", rich_help_panel=MANY)
    ] = False
    previews: Annotated[Path | None, _preview("FOLDER", "Folder to fill with pictures of x0 after each step.")] = None
    preview_every: Annotated[
        int | None, count("Steps from one preview to the next.", show_default="1", rich_help_panel=PREVIEWS)
    ] = None
    preview_decoder: Annotated[str | None, _preview("NAME", "AutoencoderTiny to decode with: Hub id or folder.")] = None

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
