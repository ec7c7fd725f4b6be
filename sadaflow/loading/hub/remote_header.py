"""Reads the header of a safetensors file on the Hub, without its tensors."""

import json
from typing import Any, Final

from .options import HubOptions
from .transport import file_url, read_reply

_LONGEST: Final = 25 * 2**20
"""Bytes of the longest header that is read."""
_FIRST: Final = 100_000
_LARGEST: Final = 2**48


def read_remote_header(name: str, file: str, commit: str, hub: HubOptions) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Read number formats and shapes of the tensors in a file.

    Args:
        name: Hub id, "owner/name".
        file: Path of the file in the repository.
        commit: The commit.
        hub: How the Hub is reached.

    Returns:
        For each tensor its number format, in the file's spelling ("F16"), and its shape.

    Raises:
        ValueError: If the file does not begin with a safetensors header.
        Exception: Whatever huggingface_hub and its client raise; `explained` translates it.
    """
    url = file_url(name, file, commit, hub)
    start = read_reply(url, hub, _FIRST, f"0-{_FIRST - 1}")
    length = int.from_bytes(start[:8], "little")
    try:
        if len(start) < 8 or length > _LONGEST:
            raise ValueError(f"its first bytes give a length of {length}")
        text = start[8 : 8 + length]
        if len(text) < length:
            text = read_reply(url, hub, length, f"8-{length + 7}")
        return _tensors(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} of {name!r} does not begin with a safetensors header: {error}") from error


def _tensors(header: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    if not isinstance(header, dict):
        raise ValueError(f"it holds a {type(header).__name__}, expected an object")
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
        sizes = isinstance(shape, list) and all(type(size) is int and 0 <= size < _LARGEST for size in shape)
        if not isinstance(kind, str) or not isinstance(shape, list) or not sizes:
            raise ValueError(f"tensor {name[:80]!r} has number format {str(kind)[:80]!r} and shape {str(shape)[:80]}")
        found[name] = (kind, tuple(shape))
    return found
