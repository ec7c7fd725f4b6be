"""The command `schedule`: searches the best set of evaluated steps, and stores it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..generation.prompt_file import read_prompt_file
from ..pipeline.inputs import read_dtype
from ..pipeline.pipeline import Pipeline
from ..pipeline.schedule_search import SearchSettings, search_pipeline
from ..pipeline.tuning import PROMPTS
from ..sampling.schedule_search import SearchEffort
from .flags import Checkpoint, Config, Debug, Device, Dtype, Revision, Variant, chosen_device
from .load import SOLVER, quiet_libraries
from .parsers import count, real, text
from .terminal import say

_EFFORT = SearchEffort()


@dataclass(frozen=True)
class ScheduleOptions:
    """The flags in the order in which --help shows them."""

    budget: Annotated[int, count("Number of evaluated steps.")]
    out: Annotated[Path, text("FILE", "JSON file; a search that it holds goes on.")]
    model: Checkpoint = None
    solver: Annotated[str | None, text("NAME", "Solver.", show_default=f"the checkpoint's, or {SOLVER}")] = None
    steps: Annotated[int, count("Steps of the solver.")] = 50
    grid: Annotated[str | None, text("NAME", "Time grid.", show_default="the checkpoint's")] = None
    guidance: Annotated[float | None, real("Classifier-free guidance.", show_default="the checkpoint's")] = None
    height: Annotated[int | None, count("Height in pixels.", show_default="the checkpoint's")] = None
    width: Annotated[int | None, count("Width in pixels.", show_default="the checkpoint's")] = None
    predictor: Annotated[str, text("NAME", "How skipped steps are predicted.")] = "kriging"
    correct: Annotated[bool, typer.Option(help="Take skipped steps again after each evaluation.")] = True
    prompts: Annotated[
        Path | None, text("FILE", "Prompts in place of the built-in ones: .txt, .jsonl, .csv, .tsv or MS-COCO's .json.")
    ] = None
    samples: Annotated[int, count("Samples that are drawn for every set of steps.")] = _EFFORT.samples
    tries: Annotated[int, count("Sets of steps that are sampled, at most.")] = _EFFORT.tries
    batch: Annotated[int, count("Most samples in memory at a time.")] = _EFFORT.batch
    revision: Revision = None
    variant: Variant = None
    device: Device = None
    dtype: Dtype = "float32"
    config: Config = None
    debug: Debug = False


def run(options: ScheduleOptions) -> None:
    """Search the set of evaluated steps that keeps most of plain samples, for the accelerator `schedule`.

    It takes minutes on one device, writes FILE after every try, and goes on from it if it is started again.
    """
    effort = SearchEffort(samples=options.samples, tries=options.tries, batch=options.batch)
    settings = SearchSettings(options.budget, options.predictor, options.correct, effort)
    prompts = PROMPTS if options.prompts is None else [entry.prompt for entry in read_prompt_file(options.prompts)]
    how = {name: getattr(options, name) for name in ("revision", "variant")}
    quiet_libraries()
    device, dtype = chosen_device(options.device), read_dtype(options.dtype)
    pipe = Pipeline.from_pretrained(options.model, device=device, dtype=dtype, **how)
    solver = options.solver or pipe.recommended.solver or SOLVER
    named = {name: getattr(options, name) for name in ("steps", "grid", "guidance", "height", "width")}
    found = search_pipeline(pipe, settings, options.out, prompts, solver=solver, **named)
    say(
        f"{options.out}: {found.solver}, {options.budget} of {options.steps} steps, {len(found.tried)} sets tried"
    )
    say(f"  {found.mask}")
    say(f"  mean squared error of the latents: 10^{found.loss:.2f}")
