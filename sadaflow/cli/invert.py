"""`generate --invert` and `--noise`: the noise of a picture as a file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ..families.request import Request
from ..files.atomic import check_target
from ..files.pictures import open_picture
from ..generation.outputs import Generator
from ..pipeline.inversion import SOLVER, Inversion
from .help import PICTURES
from .parsers import text
from .terminal import say

if TYPE_CHECKING:
    from .generate_options import GenerateOptions
    from .options import Options

_picture = partial(text, rich_help_panel=PICTURES)
DEFAULT_OUT = Path("noise.safetensors")


@dataclass(frozen=True)
class StartOptions:
    """Flags of `generate` that lead a picture back to noise, and start from there."""

    edit: Annotated[
        str | None, _picture("FILE", "Picture to edit: --image with an empty --source-prompt.")
    ] = None
    invert: Annotated[
        str | None, _picture("FILE", "Picture to find the noise of; --out is a .safetensors file.")
    ] = None
    noise: Annotated[
        Path | None, _picture("FILE", "Noise that --invert wrote, with its solver and steps.")
    ] = None


def started(request: Request, options: StartOptions) -> Request:
    """The request with the picture of --edit, or the noise of --noise.

    Raises:
        ValueError: If several flags say where sampling starts, or if a file cannot be used.
    """
    given = [f"--{name}" for name in ("edit", "invert", "noise") if getattr(options, name) is not None]
    given += ["--image"] if request.image is not None else []
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} each say where sampling starts: give one")
    if options.edit is not None:
        source = "" if request.source_prompt is None else request.source_prompt
        return replace(request, image=options.edit, source_prompt=source)
    return request if options.noise is None else with_noise(request, options.noise)


def with_noise(request: Request, file: Path) -> Request:
    """The request with the noise and the solver of a file.

    Raises:
        ValueError: If the file cannot be used, or if the request names a solver, steps or a grid of its own.
        FileNotFoundError: If there is no such file.
    """
    for name in ("solver", "steps", "grid"):
        if getattr(request, name) is not None:
            raise ValueError(f"--noise {file} brings its own solver and steps: leave out --{name}")
    found = Inversion.load(file)
    return replace(request, noise=found.noise, solver=found.solver, steps=found.solver.grid.n_steps)


def run(options: "GenerateOptions", load: "Callable[[Options], Generator]") -> None:
    """Write the noise of the picture --invert.

    Raises:
        ValueError: If a flag is given that inversion ignores.
    """
    assert options.invert is not None
    request, out = options.request, options.out or DEFAULT_OUT
    check_target(out, options.overwrite, ".safetensors")
    open_picture(options.invert)
    taken = {"prompt", "steps", "solver", "grid", "seed", "strength", "inversion", "height", "width"}
    for name in request.given():
        if name not in taken:
            raise ValueError(f"--{name.replace('_', '-')} has no effect on --invert: leave it out")
    generator = load(options)
    found = generator.pipe.invert(
        options.invert,
        request.prompts,
        steps=generator.request.steps or 0,
        solver=request.solver or SOLVER,
        grid=request.grid,
        method=request.inversion,
        strength=1.0 if request.strength is None else request.strength,
        height=request.height,
        width=request.width,
        seed=request.seed,
    )
    found.save(out, overwrite=options.overwrite)
    stats = found.stats
    say(
        f"{out}: {stats.method} inversion, {stats.nfe[0]:g} evaluations, at most {stats.iterations} iterations a step; "
        f"sampling back ends {max(stats.error):.2g} away"
    )
