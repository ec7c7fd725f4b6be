"""The files that `generate` writes, checked before any work."""

from pathlib import Path

from ..families import FAMILIES
from ..files.atomic import check_target
from ..files.video import VIDEO_ENDINGS, check_video_ending
from ..generation.endings import PICTURE, SOUND, endings_of, made_in
from ..loading.embedded import embedded
from ..loading.json_file import read_object
from .options import Options


def known_endings(options: Options) -> tuple[str, ...] | None:
    """Endings of the files that a checkpoint makes, the usual one first; None if only its download will tell."""
    if options.single_file:
        return None
    index = Path(embedded(options.model)) / "model_index.json"
    if not index.is_file():
        return None
    return endings_of(FAMILIES.get(str(read_object(index).get("_class_name"))))


def targets(options: Options, endings: tuple[str, ...] | None) -> list[Path]:
    """The files to write, one for each prompt.

    Args:
        options: The flags.
        endings: As `known_endings` returns them.

    Raises:
        ValueError: If the name of the file does not fit what the checkpoint makes.
        FileExistsError: If a file exists and is not to be overwritten.
        ImportError: If a package is missing that writes such files.
    """
    out = options.out
    if endings is None:
        if out is None:
            return []
        endings = (out.suffix.lower(),) if out.suffix.lower() in (*SOUND, *VIDEO_ENDINGS) else PICTURE
    elif out is not None and out.suffix.lower() in {*PICTURE, *SOUND, *VIDEO_ENDINGS} - {*endings}:
        raise ValueError(
            f"output file '{out}' does not fit: the checkpoint makes {made_in(endings)}, written to "
            f"{' or '.join(endings)}"
        )
    check_seconds(options, endings)
    out, count = out or Path(f"sadaflow{endings[0]}"), options.request.samples
    outs = [out] if count == 1 else [out.with_stem(f"{out.stem}-{i + 1}") for i in range(count)]
    ending = out.suffix.lower() if out.suffix.lower() in endings else endings[0]
    for path in outs:
        check_target(path, options.overwrite, ending)
    if ending in VIDEO_ENDINGS:
        check_video_ending(ending)
    return outs


def check_seconds(options: Options, endings: tuple[str, ...] | None) -> None:
    """Check that a length of sound is given to a checkpoint that makes sound.

    Raises:
        ValueError: If the checkpoint makes pictures or videos.
    """
    seconds = options.request.seconds
    if seconds is not None and endings is not None and endings != SOUND:
        raise ValueError(f"--seconds {seconds:g} is a length of sound, and the checkpoint makes {made_in(endings)}")
