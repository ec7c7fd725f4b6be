"""Expectations of broken checkpoints: a named error, within bounds; and safetensors headers by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from sadaflow import Pipeline


def refused(folder: Path, *words: str, **arguments: Any) -> None:
    """Loading the folder raises a short error that holds all the words."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        Pipeline.from_pretrained(folder, **arguments)
    message = str(caught.value)
    assert len(message) < 5000
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"


def weights_of(folder: Path, component: str) -> Path:
    """The only safetensors file of a component."""
    (path,) = (folder / component).glob("*.safetensors")
    return path


def header(content: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file: `length` (that of the header if None) in 8 bytes, the header as JSON, then the data."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data
