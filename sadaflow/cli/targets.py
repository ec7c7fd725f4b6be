"""The files that `generate` writes, checked before any work."""

from pathlib import Path

from ..families import FAMILIES
from ..files.atomic import check_target
from ..loading.embedded import embedded
from ..loading.json_file import read_object
from .options import Options


def ending_of(options: Options) -> str | None:
    """Ending of the files that a checkpoint makes: ".png", ".wav", or None if only its download will tell."""
    if options.single_file:
        return ".png"
    index = Path(embedded(options.model)) / "model_index.json"
    if not index.is_file():
        return None
    kind = FAMILIES.get(str(read_object(index).get("_class_name")))
    return ".wav" if hasattr(kind, "waveform") else ".png"


def targets(options: Options, ending: str | None) -> list[Path]:
    """The files to write, one for each prompt.

    Args:
        options: The flags.
        ending: As `ending_of` returns it.

    Raises:
        ValueError: If the name of the file does not fit what the checkpoint makes.
        FileExistsError: If a file exists and is not to be overwritten.
    """
    out = options.out
    if ending is None:
        if out is None:
            return []
        ending = out.suffix.lower() if out.suffix.lower() in (".png", ".wav") else ".png"
    elif out is not None and {out.suffix.lower(), ending} == {".png", ".wav"}:
        what = "sound, which is written to .wav" if ending == ".wav" else "pictures, which are written to .png"
        raise ValueError(f"output file '{out}' does not fit: the checkpoint makes {what}")
    check_seconds(options, ending)
    out, count = out or Path(f"sadaflow{ending}"), options.request.samples
    outs = [out] if count == 1 else [out.with_stem(f"{out.stem}-{i + 1}") for i in range(count)]
    for path in outs:
        check_target(path, options.overwrite, ending)
    return outs


def check_seconds(options: Options, ending: str | None) -> None:
    """Check that a length of sound is given to a checkpoint that makes sound.

    Raises:
        ValueError: If the checkpoint makes pictures.
    """
    seconds = options.request.seconds
    if seconds is not None and ending == ".png":
        raise ValueError(f"--seconds {seconds:g} is a length of sound, and the checkpoint makes pictures")
