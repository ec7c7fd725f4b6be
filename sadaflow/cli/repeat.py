"""The command `repeat`: makes a picture, sound or video again from the record in its file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ..families.options import PLAIN
from ..files.atomic import write_file
from ..files.metadata import Recipe
from ..files.png import read_text
from ..files.video import VIDEO_ENDINGS, read_video_comment
from ..files.wav import read_comment
from ..generation.outputs import Made, recorded_request
from ..pipeline.picture_files import check_digests
from .flags import Debug, Device
from .generate_options import GenerateOptions
from .load import RECORDED, load_generator
from .parsers import text
from .targets import targets
from .terminal import say

_REPEATED: Final = ("controlnet", "lora", "lora_scale", "embedding", "embedding_token")
_RECORDS: Final[Mapping[str, Callable[[Path], str]]] = {
    ".png": lambda path: read_text(path).get("sadaflow", ""),
    ".wav": read_comment,
    **dict.fromkeys(VIDEO_ENDINGS, read_video_comment),
}
"""Reads the record of a file, by the file's ending."""
_MEASURED: Final = ("nfe", "modes", "versions")


@dataclass(frozen=True)
class RepeatOptions:
    """The flags in the order in which --help shows them."""

    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that sadaflow generate wrote.")]
    out: Annotated[Path | None, text("FILE", "File to write.", show_default="sadaflow, with the same ending")] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False
    model: Annotated[
        str | None, text("NAME", "Model, where the record holds only its folder's name.", show_default="the record's")
    ] = None
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Import code outside of sadaflow that the record names.")
    ] = False
    device: Device = None
    debug: Debug = False


def run(options: RepeatOptions) -> None:
    """Make a picture, sound or video again from the record in its file, to the bit on the same machine and versions.

    Solver and accelerator have all the settings that they had, whatever their names stand for now.
    """
    recipe = read_recipe(options.file)
    flags = generate_options(recipe, options)
    flags.check()
    outs = targets(flags, endings_beside(options.file))
    made = _repeat(recipe, flags, outs[0].suffix.lower())
    write_file(outs[0], made.content, options.overwrite)
    say(f"{outs[0]}: {recipe.steps} steps, {made.recipe.nfe:g} of {len(made.recipe.modes)} evaluations")


def read_recipe(path: Path) -> Recipe:
    """The record in a PNG, WAV or video file.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is none of these, or holds no record.
        ImportError: If a package is missing that reads such files.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path}'")
    ending = path.suffix.lower()
    if ending not in _RECORDS:
        raise ValueError(f"'{path}' is none of {', '.join(_RECORDS)}")
    try:
        record = _RECORDS[ending](path)
    except (OSError, SyntaxError, UnicodeDecodeError) as error:  # Pillow raises SyntaxError for a damaged PNG
        raise ValueError(f"'{path}' cannot be read: {error}") from error
    if not record:
        raise ValueError(f"'{path}' holds no record of sadaflow generate")
    return Recipe.from_json(record)


def endings_beside(path: Path) -> tuple[str, ...]:
    """Endings that the sample of a file may be written to: its own, and for a video those of other formats."""
    own = path.suffix.lower()
    return (own, *(ending for ending in VIDEO_ENDINGS if own in VIDEO_ENDINGS and ending != own))


def generate_options(recipe: Recipe, options: RepeatOptions) -> GenerateOptions:
    """The flags with which `generate` makes the sample of a record.

    Solver and accelerator are those of the record with all their settings; a record without them, of an earlier
    version, gives their names.

    Raises:
        ValueError: If the record cannot be followed: see `recorded_request`; or if its run was stopped on the way, or
            if a picture that it started from is another now.
    """
    if (stopped := recipe.options.get("stopped_after")) is not None:
        raise ValueError(f"the run was stopped after {stopped} steps by a program, which the record does not hold")
    if recipe.options.get("noise") is not None:
        raise ValueError("the sample was made from noise of its own, of which the record holds the SHA-256 alone")
    request = recorded_request(recipe, exact=recipe.solver_config is not None, trusted=options.trusted)
    check_digests(request, recipe.options)
    height = request.height if request.seconds is None else None  # the seconds give that of the spectrogram
    control = recipe.options.get("control")
    request = replace(request, accelerator=request.accelerator or PLAIN, control=control, height=height)
    name, _, commit = recipe.model.partition("@")
    how = {key: _flag(key, recipe.options[key]) for key in (*RECORDED, "dtype") if key in recipe.options}
    if options.model is None:
        how |= {"model": name, "revision": commit or None}
    else:
        how["model"] = options.model
    return GenerateOptions(
        **how, out=options.out, overwrite=options.overwrite, request=request, device=options.device,
        debug=options.debug,
    )  # fmt: skip


def _flag(name: str, value: Any) -> Any:
    """The value of a flag in a record, which may be a stranger's; raises ValueError if it has the wrong form."""
    entries = value if name in _REPEATED else [value]
    if not isinstance(entries, list) or not all(isinstance(entry, (str, int, float)) for entry in entries):
        raise ValueError(f"the record has {name}={value!r}, which is not a value of the flag --{name}")
    return value


def _repeat(recipe: Recipe, options: GenerateOptions, ending: str) -> Made:
    """Makes the sample of a record; the new file's record is the same but for versions and what was measured.

    Args:
        recipe: The record.
        options: The flags with which it is made, from `generate_options`.
        ending: Ending of the file.
    """
    kept = {item.name: getattr(recipe, item.name) for item in fields(recipe) if item.name not in _MEASURED}
    generator = replace(load_generator(options), recorded=kept)
    return generator.file(generator.sample(generator.request), generator.request, 0, ending)
