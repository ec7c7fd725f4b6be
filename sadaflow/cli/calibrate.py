"""The command `calibrate`: measures what `auto` needs to keep to a cost, or the settings of TeaCache and MagCache."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ..accelerators import MagCache, TeaCache
from ..generation.prompt_file import read_prompt_file
from ..pipeline.calibrate import PROMPTS
from ..pipeline.calibrations import NAME, cache_file, write_calibrations
from ..pipeline.inputs import read_dtype
from ..pipeline.pipeline import Pipeline
from ..pipeline.recorded import record_accelerator
from ..sampling.auto_calibration import Effort
from .flags import Checkpoint, Config, Debug, Device, Dtype, Revision, Variant, chosen_device
from .load import SOLVER, quiet_libraries
from .parsers import count, real, text
from .terminal import say

_EFFORT = Effort()


@dataclass(frozen=True)
class CalibrateOptions:
    """The flags in the order in which --help shows them."""

    model: Checkpoint = None
    method: Annotated[
        Literal["auto", "teacache", "magcache"],
        text("NAME", "auto, which is stored; teacache or magcache, whose settings are printed for --accelerate."),
    ] = "auto"
    solver: Annotated[str | None, text("NAME", "Solver.", show_default=f"the checkpoint's, or {SOLVER}")] = None
    steps: Annotated[list[int] | None, count("Steps of the solver; may be repeated.", show_default="50")] = None
    grid: Annotated[str | None, text("NAME", "Time grid.", show_default="the checkpoint's")] = None
    guidance: Annotated[float | None, real("Classifier-free guidance.", show_default="the checkpoint's")] = None
    height: Annotated[int | None, count("Height in pixels.", show_default="the checkpoint's")] = None
    width: Annotated[int | None, count("Width in pixels.", show_default="the checkpoint's")] = None
    prompts: Annotated[
        Path | None, text("FILE", "Prompts in place of the built-in ones: .txt, .jsonl, .csv, .tsv or MS-COCO's .json.")
    ] = None
    samples: Annotated[int, count("Samples that are measured.")] = _EFFORT.samples
    planned: Annotated[int, count("Samples that plans of few evaluations are fitted to.")] = _EFFORT.planned
    batch: Annotated[int, count("Most samples in memory at a time.")] = _EFFORT.batch
    out: Annotated[
        Path | None,
        text("FILE", "JSON file to add to.", show_default=f"{NAME} in a local folder, else the user's cache"),
    ] = None
    revision: Revision = None
    variant: Variant = None
    device: Device = None
    dtype: Dtype = "float32"
    config: Config = None
    debug: Debug = False

    def path(self, weights: str) -> Path:
        """The file to add to."""
        if self.out is not None:
            return self.out
        folder = Path(self.model or "")
        return folder / NAME if self.model is not None and folder.is_dir() else cache_file(weights)


def setting_text(accelerator: TeaCache | MagCache) -> str:
    """An accelerator's measured settings as `--accelerate` takes them."""
    if isinstance(accelerator, TeaCache):
        return f"teacache coefficients={','.join(f'{number:.8g}' for number in accelerator.coefficients)}"
    return f"magcache never=[] ratios={','.join(f'{ratio:.5f}' for ratio in accelerator.ratios)}"


def run(options: CalibrateOptions) -> None:
    """Measure how errors grow in a checkpoint and what a tolerance costs, so that --speedup keeps its word.

    It takes minutes on one device. Later runs with the same weights, solver and steps use it by themselves.
    """
    effort = Effort(samples=options.samples, batch=options.batch, planned=options.planned)
    prompts = PROMPTS if options.prompts is None else [entry.prompt for entry in read_prompt_file(options.prompts)]
    how = {name: getattr(options, name) for name in ("revision", "variant")}
    quiet_libraries()
    device, dtype = chosen_device(options.device), read_dtype(options.dtype)
    pipe = Pipeline.from_pretrained(options.model, device=device, dtype=dtype, **how)
    solver = options.solver or pipe.recommended.solver or SOLVER
    named = {name: getattr(options, name) for name in ("grid", "guidance", "height", "width")}
    if options.method != "auto":
        how = {"samples": options.samples, "batch": options.batch, "solver": solver, **named}
        for steps in options.steps or [50]:
            measured = record_accelerator(pipe, options.method, prompts, steps=steps, **how)
            say(f"{solver}, {steps} steps, measured by {options.samples * steps} evaluations:")
            say(f"  {setting_text(measured)}")
        return
    for steps in options.steps or [50]:
        found = pipe.calibrate(prompts, effort=effort, solver=solver, steps=steps, **named)
        path = options.path(found.weights)
        write_calibrations(path, [found])
        say(f"{path}: {found.solver}, {steps} steps, guidance {found.guidance:g}")
        for speedup in (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0):
            if (fork := found.fork_for(steps / speedup, found.settings)) is not None:
                say(f"  speedup {speedup:g}: plans of {', '.join(map(str, fork.counts))} evaluations")
            elif found.covers(steps / speedup, found.settings):
                say(f"  speedup {speedup:g}: tolerance {found.tolerance_for(steps / speedup):.2g}")
        say(f"  at most {steps / found.least:.2f}x")
