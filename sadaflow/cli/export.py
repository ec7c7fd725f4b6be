"""The command `export`: writes a checkpoint as a folder in the Hub's layout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..loading.embedded import embedded_names
from ..loading.export import export_checkpoint
from .flags import Debug, Device, Dtype, Names, Numbers, Revision, Variant
from .load import load_pipeline, quiet_libraries
from .options import Options
from .parsers import real, text
from .terminal import say


@dataclass(frozen=True)
class ExportOptions:
    """The flags in the order in which --help shows them."""

    model: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Hub id, folder, single file, or name of an embedded checkpoint."),
    ]
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder to write.")]
    lora: Annotated[Names, text("NAME", "LoRA to merge; may be repeated.")] = None
    lora_scale: Annotated[Numbers, real("Scale of the LoRAs: one for all, or one for each.")] = None
    vae: Annotated[str | None, text("NAME", "Autoencoder in place of the model's.")] = None
    tokenizer: Annotated[str | None, text("NAME", "For a single file: checkpoint with its tokenizer.")] = None
    base: Annotated[str | None, text("NAME", "For a single file: checkpoint with whatever it lacks.")] = None
    prediction: Annotated[str | None, text("NAME", "For a single file: epsilon or v_prediction.")] = None
    scheduler: Annotated[str | None, text("NAME", "Scheduler config in place of the model's.")] = None
    revision: Revision = None
    variant: Variant = None
    dtype: Dtype = "float32"
    device: Device = "cpu"
    debug: Debug = False

    def loading(self) -> Options:
        """The flags that load the pipeline, as `generate` has them."""
        return Options(
            model=self.model,
            lora=self.lora,
            lora_scale=self.lora_scale,
            vae=self.vae,
            tokenizer=self.tokenizer,
            base=self.base,
            prediction=self.prediction,
            scheduler=self.scheduler,
            revision=self.revision,
            variant=self.variant,
            dtype=self.dtype,
            device=self.device,
        )


def run(options: ExportOptions) -> None:
    """Write a checkpoint to a new folder in the Hub's layout, with merged LoRAs, as Diffusers loads it."""
    quiet_libraries()
    say(f"{_export(options)}: {options.model} with all its components")


def _export(options: ExportOptions) -> Path:
    """The folder that was written; an embedded checkpoint is copied file by file, unless flags change it."""
    changed = options.lora or options.vae or options.scheduler or options.dtype != "float32"
    if options.model in embedded_names() and not changed:
        return export_checkpoint(options.model, options.folder)
    loading = options.loading()
    loading.check_flags()
    return load_pipeline(loading).export(options.folder)
