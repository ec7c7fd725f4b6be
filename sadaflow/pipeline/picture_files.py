"""Files of pictures to start from, and of encoded prompts: checked before loading, and recorded by their digests."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..families import Request
from ..files.images import picture_digest
from ..files.pictures import open_picture
from ..files.sound import read_sound

_NAMES = ("image", "mask", "audio")

_RATE = 16000
"""Any sampling rate will do to check a file."""


def check_files(request: Request) -> None:
    """Read the pictures of a request that are named by their files.

    Raises:
        ValueError: If one cannot be used.
    """
    for name, files in files_of(request).items():
        for file in files:
            try:
                _ = open_picture(file) if name != "audio" else read_sound(file, _RATE)
            except ValueError as error:
                raise ValueError(f"--{name}: {error}") from error


def files_of(request: Request) -> dict[str, list[str]]:
    """Names of the files of the pictures of a request, by argument."""
    found: dict[str, list[str]] = {}
    for name in _NAMES:
        value = getattr(request, name)
        files = [entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, str)]
        if files:
            found[name] = files
    return found


def digests_of(request: Request) -> dict[str, Any]:
    """SHA-256 of each file of `files_of`, and of that of `words`, by name: "image_sha256", "words_sha256"."""
    found: dict[str, Any] = {}
    for name, files in files_of(request).items():
        digests = [picture_digest(file) for file in files]
        found[f"{name}_sha256"] = digests[0] if len(digests) == 1 else digests
    if request.words is not None and request.words.source is not None:
        found["words_sha256"] = hashlib.sha256(Path(request.words.source).read_bytes()).hexdigest()
    return found


def check_digests(request: Request, recorded: Mapping[str, Any]) -> None:
    """Check that the pictures of a request are those of a record.

    Args:
        request: The request.
        recorded: Entries of the record, with what `digests_of` returned.

    Raises:
        ValueError: If a picture cannot be read, or if it is another now.
    """
    for name, found in digests_of(request).items():
        if recorded.get(name) not in (None, found):
            argument = name.removesuffix("_sha256")
            value = getattr(request, argument)
            raise ValueError(
                f"the {argument} {getattr(value, 'source', value)!r} is not the one that the record was made with"
            )
