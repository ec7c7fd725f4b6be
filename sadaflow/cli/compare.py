"""The commands `compare` and `explore`: an accelerated sample beside the unaccelerated one."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..compare.comparison import Comparison, compare
from ..compare.explored import decoder, explore_comparison
from ..compare.table import table
from ..families import AudioFamily, MelFamily, VideoFamily
from ..families.options import PLAIN
from ..files.atomic import check_target, write_file
from ..files.metadata import Recipe
from ..files.pictures import open_picture
from ..files.png import write_png
from ..generation.outputs import Generator
from ..guidance import guidance_text
from ..pipeline.inputs import read_accelerator
from ..pipeline.picture_files import files_of
from .dry_run import describe_run
from .load import load_generator
from .options import Options
from .targets import check_seconds, known_endings
from .terminal import say


@dataclass(frozen=True)
class _Compared:
    """A comparison that was made, with what made it."""

    generator: Generator
    comparison: Comparison

    @property
    def caption(self) -> str:
        """A line that says of what the comparison is."""
        request = self.generator.request
        return (
            f"{self.generator.model}, {request.steps} steps, solver {request.solver}, "
            f"guidance {guidance_text(request.known_guidance)}, seed {request.seed}"
        )

    def page(self) -> str:
        """The comparison as a page to explore, in HTML."""
        return explore_comparison(self.comparison, self.caption, decoder(self.generator.pipe))

    def record(self) -> dict[str, str]:
        """Text chunks of the pictures: the record of the accelerated runs, one prompt a line."""
        height, width = self.comparison.plain.images.shape[-2:]
        fast = self.comparison.accelerated
        nfe, modes = sum(fast.nfe) / len(fast.nfe), tuple(" ".join(modes) for modes in fast.modes)
        recipe: Recipe = self.generator.recipe(self.generator.request, height=height, width=width, nfe=nfe, modes=modes)
        return recipe.chunks()

    def picture(self) -> Any:
        """The pictures, the log-mel spectrograms of sounds, or frames of videos, side by side."""
        # These need matplotlib, which is slow to import.
        from ..compare.image_figure import draw
        from ..compare.sound_figure import draw_sound
        from ..compare.video_figure import draw_videos

        request, family = self.generator.request, self.generator.pipe.family
        if isinstance(family, AudioFamily):
            frequencies = family.band_frequencies if isinstance(family, MelFamily) else ()
            return draw_sound(self.comparison, family.frame_seconds, self.caption, frequencies)
        if isinstance(family, VideoFamily):
            return draw_videos(self.comparison, self.caption)
        shown = {"image": "input", "mask": "mask"}
        inputs = {shown[name]: [open_picture(file) for file in files] for name, files in files_of(request).items()}
        return draw(self.comparison, self.caption, request.control or (), inputs)


def run(options: Options) -> None:
    """Compare an accelerator with plain sampling and naive baselines: a table, two figures and a page.

    The first figure shows the pictures, the log-mel spectrograms of sounds, or frames of videos; the second,
    FILE-trajectory.png, shows criterion, mode and error of every step. FILE.html shows x0 of every step under a slider.
    """
    out = options.out or Path("compare.png")
    trajectory, page = out.with_stem(f"{out.stem}-trajectory"), out.with_suffix(".html")
    made = _compared(options, [out, trajectory, page])
    if made is None:
        return
    from ..compare.trajectory_figure import draw_trajectory  # needs matplotlib, which is slow to import

    record = made.record()
    write_png(out, made.picture(), record, options.overwrite)
    write_png(trajectory, draw_trajectory(made.comparison, made.caption), record, options.overwrite)
    write_file(page, made.page().encode(), options.overwrite)
    say(table(made.comparison))
    say(f"{out}: plain, {made.comparison.accelerator}, difference, and the mode of every step")
    say(f"{trajectory}: criterion, mode and error of every step")
    say(f"{page}: all of it with a slider over the steps, for a browser")


def explore(options: Options) -> None:
    """Write a page that shows every step of a comparison under a slider: x0, error, criterion, modes, tokens.

    It is what `compare` writes to FILE.html, alone: one file that any browser opens, without a server.
    """
    page = options.out or Path("explore.html")
    made = _compared(options, [page])
    if made is not None:
        write_file(page, made.page().encode(), options.overwrite)
        say(table(made.comparison))
        say(f"{page}: plain and {made.comparison.accelerator} with a slider over the steps, for a browser")


def _compared(options: Options, outs: list[Path]) -> _Compared | None:
    """Check the flags and the files to write, and compare; None if the run is only to be described.

    Raises:
        ValueError: If flags do not fit, before any work.
        FileExistsError: If a file exists and is not to be overwritten.
    """
    if options.request.accelerator == PLAIN:
        raise ValueError("compare needs an accelerator beside the plain run; --accelerate none is for generate")
    options.check()
    for path in outs:
        check_target(path, options.overwrite, ".html" if path == outs[-1] else ".png")
    check_seconds(options, known_endings(options))
    if options.dry_run:
        say(describe_run(options, outs))
        return None
    generator = load_generator(options)
    request = generator.request
    beside = () if request.accelerator == "sada" else ("sada",)
    chosen = read_accelerator(request) if request.speedup else request.accelerator
    how: dict[str, Any] = {"notify": _notify, "trace": True, "beside": beside}
    return _Compared(generator, compare(generator.pipe, request.prompts, request, chosen, **how))


def _notify(what: str) -> None:
    if sys.stderr.isatty():
        say(what, err=True)
