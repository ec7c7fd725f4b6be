"""The flags of `bench speed`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..bench.speed import MEASURES, MODES, Speed
from .flags import Config, Debug, Device, Dtype, Names
from .parsers import count, real, text

_DEFAULT = Speed()


@dataclass(frozen=True)
class SpeedOptions:
    """The flags in the order in which --help shows them."""

    out: Annotated[Path, text("FOLDER", "Folder for speed.json and speed.md.")]
    model: Annotated[
        Names, text("NAME", "Model to measure; may be repeated.", show_default=", ".join(_DEFAULT.models))
    ] = None
    measure: Annotated[
        Names, text("NAME", f"One of {', '.join(MEASURES)}; may be repeated.", show_default="all of them")
    ] = None
    steps: Annotated[int, count("Steps of the solver.")] = _DEFAULT.steps
    solver: Annotated[str | None, text("NAME", "Solver of both sides.", show_default="the checkpoint's")] = None
    guidance: Annotated[float | None, real("Guidance of both sides.", show_default="the checkpoint's")] = None
    size: Annotated[int | None, count("Pixels along each side.", show_default="the checkpoint's")] = None
    batch: Annotated[list[int] | None, count("Pictures at a time; may be repeated.", show_default="1")] = None
    rounds: Annotated[int, count("Interleaved rounds.")] = _DEFAULT.rounds
    processes: Annotated[int, count("Processes to start for each side.")] = _DEFAULT.processes
    accelerate: Annotated[
        Names, text("NAME", 'Accelerator, with arguments as in "sada tokens=false"; may be repeated.')
    ] = None
    replay: Annotated[Path | None, text("FILE", "speed.json of another run, whose skip patterns are replayed.")] = None
    latent: Annotated[bool, typer.Option("--latent", help="Leave the decoder out.")] = False
    compile: Annotated[bool, typer.Option("--compile", help="Compile the backbones of both sides.")] = False
    compile_mode: Annotated[
        str | None, text("NAME", f"torch.compile's mode: {', '.join(MODES)}.", show_default="default")
    ] = None
    alone: Annotated[bool, typer.Option("--alone", help="Leave Diffusers out.")] = False
    network_seconds: Annotated[
        float | None,
        real("Seconds of an evaluation of SDXL, against which overheads are set.", show_default="if measured"),
    ] = None
    cache: Annotated[Path | None, text("FOLDER", "Where random checkpoints are kept.", show_default="nowhere")] = None
    threads: Annotated[int | None, count("Threads of the processor.", show_default="torch's")] = None
    device: Device = None
    dtype: Dtype = "float32"
    config: Config = None
    debug: Debug = False

    def speed(self) -> Speed:
        """The measurement that the flags describe.

        Raises:
            ValueError: If a number is out of its range.
        """
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {self.threads}")
        return Speed(
            models=tuple(self.model or _DEFAULT.models),
            measures=tuple(self.measure or MEASURES),
            steps=self.steps,
            solver=self.solver,
            guidance=self.guidance,
            batches=tuple(self.batch or _DEFAULT.batches),
            size=self.size,
            rounds=self.rounds,
            processes=self.processes,
            accelerators=tuple(self.accelerate or ()),
            replay=self.replay,
            latent=self.latent,
            compiled=self.compile,
            mode=self.compile_mode,
            alone=self.alone,
            network_seconds=self.network_seconds,
        )
