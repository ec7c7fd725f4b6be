"""Files of what a picture looks like while it is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files.atomic import write_file
from ..files.images import to_image
from ..files.png import encode_png
from ..files.video import strip
from ..pipeline.pipeline import Pipeline
from ..sampling.results import Step
from .generate_options import GenerateOptions


@dataclass(frozen=True)
class PreviewFiles:
    """An observer that writes the x0 of every k-th step and of the last one, in the size of the picture.

    Of a video, some frames are shown side by side.

    Attributes:
        pipe: The checkpoint, which decodes x0 cheaply.
        folder: Where the files are written, as NAME-step-007.png.
        names: A name for each sample.
        every: k.
        overwrite: Whether existing files are replaced.
    """

    pipe: Pipeline
    folder: Path
    names: Sequence[str]
    every: int = 1
    overwrite: bool = False

    def __call__(self, step: Step) -> None:
        """Writes the files of one step."""
        made = step.index + 1
        if made % self.every and made != step.total:
            return
        factor, height = self.pipe.family.vae.config.downscale, step.x0.shape[-2]
        for name, shown in zip(self.names, self.pipe.preview(step.x0), strict=True):
            picture = to_image(shown if shown.dim() == 3 else strip(shown))
            size = (picture.width * height * factor // picture.height, height * factor)
            content = encode_png(picture if picture.size == size else picture.resize(size))
            write_file(self.folder / f"{name}-step-{made:03}.png", content, self.overwrite)


def preview_files(options: GenerateOptions, pipe: Pipeline, outs: Sequence[Path]) -> PreviewFiles | None:
    """The observer that the flags ask for, or None; it loads the decoder that they name.

    Args:
        options: The flags.
        pipe: The checkpoint.
        outs: The files to write, one for each prompt.
    """
    if options.previews is None:
        return None
    if options.preview_decoder is not None:
        pipe.load_preview_decoder(options.preview_decoder)
    names = [out.stem for out in outs]
    return PreviewFiles(pipe, options.previews, names, options.preview_every or 1, options.overwrite)


def check_preview_flags(options: GenerateOptions) -> None:
    """Check that the flags of previews fit each other.

    Raises:
        ValueError: If one has no effect, or is out of its range.
    """
    if options.previews is None:
        for name in options.given("preview_every", "preview_decoder"):
            raise ValueError(f"--{name.replace('_', '-')} is for previews, --previews FOLDER")
    elif options.prompts is not None:
        raise ValueError("--previews shows the making of single pictures; it has no meaning with --prompts")
    if options.preview_every is not None and options.preview_every < 1:
        raise ValueError(f"--preview-every must be at least 1, got {options.preview_every}")


def check_previews(options: GenerateOptions, outs: Sequence[Path]) -> None:
    """Check that previews can be written, before any work.

    Args:
        options: The flags.
        outs: The files to write, one for each prompt.

    Raises:
        ValueError: If the checkpoint makes sound.
        NotADirectoryError: If the folder is a file.
        FileExistsError: If it holds previews of these names that may not be replaced.
    """
    folder = options.previews
    if folder is None:
        return
    if any(out.suffix == ".wav" for out in outs):
        raise ValueError("--previews shows pictures, and the checkpoint makes sound")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--previews {folder} is a file; name a folder")
    if options.overwrite or not folder.is_dir():
        return
    for path in sorted(folder.glob("*-step-*.png")):
        if path.name.rpartition("-step-")[0] in {out.stem for out in outs}:
            raise FileExistsError(f"preview '{path}' exists and is kept; choose another folder, or --overwrite")
