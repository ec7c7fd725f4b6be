"""Reading JSON that someone else wrote."""

import json
from pathlib import Path
from typing import Any

LONGEST = 64 * 2**20


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; FileNotFoundError, or ValueError for what is none, or is longer than 64 MiB."""
    if not file.is_file():
        raise FileNotFoundError(f"the checkpoint has no {file}")
    if (size := file.stat().st_size) > LONGEST:
        raise ValueError(f"{file} has {size} bytes; a description of a checkpoint has at most {LONGEST}")
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # bad JSON or text, numbers of thousands of digits, deep nesting
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, expected a JSON object")
    return content
