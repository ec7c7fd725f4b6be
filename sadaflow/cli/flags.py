"""Flags that several commands have."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from ..pipeline.inputs import read_device
from .config import read_config
from .help import LOADING, MEMORY, RUN
from .parsers import text

Names = list[str] | None
Numbers = list[float] | None

Device = Annotated[
    str | None,
    text("NAME", "Where the networks run.", show_default="cuda if there is one, else cpu", rich_help_panel=MEMORY),
]
Dtype = Annotated[str, text("NAME", "Number format of the networks: fp32, fp16 or bf16.", rich_help_panel=MEMORY)]
Revision = Annotated[str | None, text("NAME", "Branch, tag or commit of a Hub id.", rich_help_panel=LOADING)]
Variant = Annotated[str | None, text("NAME", 'Variant of the weights, as in "fp16".', rich_help_panel=LOADING)]
Checkpoint = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="Hub id, folder, or name of an embedded checkpoint.",
        show_default="the embedded tiny-sd",
    ),
]
Config = Annotated[
    Path | None,
    text(
        "FILE", "TOML file that holds flags; the command line wins.", is_eager=True, callback=read_config,
        rich_help_panel=RUN,
    ),
]  # fmt: skip
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done; load no weights.", rich_help_panel=RUN)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=RUN)]


def chosen_device(name: str | None) -> torch.device:
    """The device of that name; None is a GPU if there is one. Raises ValueError if it cannot be used here."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.empty(0, device=read_device(name, "--device ")).device  # with its number: cuda:0
