"""Broken checkpoints: mutated JSON, safetensors headers by hand, and the expectation of a named error."""

import copy
import json
import math
import random
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


VALUES = (
    None, True, -1, 0, 1, 3, 10**9, 10**30, 0.5, -1e308, math.nan, math.inf, "", "x" * 5000, "../..", "\0", [],
    [[]], {}, [1] * 1000, [None], ["x"], {"x": 1}, [0, 0, 0], [1e9, 1], [[[[1]]]],
)  # fmt: skip


def mutated(text: str, draw: random.Random) -> str:
    """JSON with a field changed, removed, added or repeated, or with some of its characters wrong."""
    content = json.loads(text)
    field = draw.choice(sorted(content))
    match draw.randrange(6):
        case 0 | 1 | 2:
            content[field] = copy.deepcopy(draw.choice(VALUES))
        case 3:
            del content[field]
            content[field[::-1] if draw.random() < 0.3 else draw.choice(sorted(content))] = draw.choice(VALUES)
        case 4:
            value = content[field]
            content[field] = value * draw.choice((2, 7)) if isinstance(value, list) else [value, value]
        case _:
            at = draw.randrange(len(text))
            return text[:at] + draw.choice(("", "}", "[", "\x00", "9" * 50, '"', text)) + text[at + draw.randrange(9) :]
    return json.dumps(content)
