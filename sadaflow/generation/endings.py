"""Endings of the files that samples are written to, by what a family makes."""

from typing import Final

from ..files.video import VIDEO_ENDINGS

PICTURE: Final = (".png",)
SOUND: Final = (".wav",)


def endings_of(family: object) -> tuple[str, ...]:
    """Endings for the samples of a family, or of a class of families; the first is the usual one.

    Those of pictures are also returned for None, an unknown family.
    """
    if hasattr(family, "waveform"):
        return SOUND
    return VIDEO_ENDINGS if hasattr(family, "frames_per_second") else PICTURE


def made_in(endings: tuple[str, ...]) -> str:
    """What is written to files of these endings: "pictures", "sound" or "videos"."""
    if endings == PICTURE:
        return "pictures"
    return "sound" if endings == SOUND else "videos"
