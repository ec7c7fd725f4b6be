"""Reads files of prompts and checks them before any work."""

import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from ..families.request import ARGUMENTS
from ..files.pictures import open_picture
from .prompt_forms import FIELDS, FORMS, BadLine, Entry

OF_PICTURES: Final = ("image", "mask", "strength", "source_prompt")
"""Those of pictures to start from."""

FURTHER: Final = (*OF_PICTURES, "blend_prompt", "guidance")
"""Those that a line need not have, and takes from the run."""

LAST_SEED: Final = 2**63 - 1
_LARGEST: Final = 2**30
"""Bytes of the largest prompt file."""
_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_OTHER_TEXTS: Final = ("negative_prompt", "blend_prompt", "source_prompt")


@dataclass(frozen=True)
class Prompt:
    """One line of a prompt file.

    Attributes:
        index: Position in the file, from 0.
        name: Name of the file to write, without its ending.
        prompt: The prompt.
        seed: Seed of its start noise.
        negative_prompt: Its negative prompt; None is that of the run.
        image: File of the picture that it starts from; None is that of the run.
        mask: File of its mask; likewise.
        strength: Its strength; likewise.
        source_prompt: What its picture shows; likewise.
        blend_prompt: The prompt that it becomes in the course of the steps; likewise.
        guidance: Its guidance, a number or the text of a rule; likewise.
    """

    index: int
    name: str
    prompt: str
    seed: int
    negative_prompt: str | None = None
    image: str | None = None
    mask: str | None = None
    strength: float | None = None
    source_prompt: str | None = None
    blend_prompt: str | None = None
    guidance: float | str | None = None


def read_prompt_file(path: Path, seed: int = 0) -> list[Prompt]:
    """Read the prompts of a file, in order.

    The ending decides the format. A .txt file has one prompt per line. A .jsonl file has an object per line with
    "prompt" and, optionally, "seed", "negative_prompt", "blend_prompt" and "id"; and of pictures to start from "image"
    and "mask", files relative to the prompt file, "strength" and "source_prompt"; and "guidance", a number or the text
    of a rule. A picture, mask or source prompt is given by all lines or by none. A .csv file has these names in its
    header, and an empty cell for a field that is not given. A .json file holds captions as MS-COCO does
    (captions_val2017.json), of which the first of every picture is read, in the order of the pictures' ids. All are
    UTF-8; blank lines are skipped.

    Benchmarks are read as they are published: DrawBench (.csv), PartiPrompts (.tsv) and GenEval (.jsonl); their
    categories are not used.

    Args:
        path: The file.
        seed: Prompt i has the seed `seed` + i, unless the file gives its own. Its name is its id, or i in six digits.

    Raises:
        ValueError: If a line cannot be read. File and line are named.
        FileNotFoundError: If there is no such file.
    """
    ending = path.suffix.lower()
    if ending not in FORMS:
        raise ValueError(f"prompt file '{path}' must end in {', '.join(FORMS)}")
    if not path.is_file():
        what = "is not a regular file, which could be read twice" if path.exists() else "does not exist"
        raise FileNotFoundError(f"prompt file '{path}' {what}")
    if (size := path.stat().st_size) > _LARGEST:
        raise ValueError(f"prompt file '{path}' has {size} bytes; the largest that is read has {_LARGEST}: divide it")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadLine(path, content.count(b"\n", 0, error.start) + 1, "is not UTF-8") from error
    prompts: list[Prompt] = []
    lines: dict[str, int] = {}
    for line, entry in FORMS[ending](path, text.replace("\r\n", "\n")):
        try:
            prompt = _prompt(len(prompts), _beside(path, entry), seed)
            _check_alike(prompts, prompt)
        except ValueError as error:
            raise BadLine(path, line, str(error)) from error
        first = lines.setdefault(prompt.name.lower(), line)  # on some systems A.png and a.png are one file
        if first != line:
            problem = f"would be written to the same file as line {first}: {prompt.name}; change its id"
            raise BadLine(path, line, problem)
        prompts.append(prompt)
    if not prompts:
        raise ValueError(f"prompt file '{path}' holds no prompt")
    return prompts


def _prompt(index: int, entry: Entry, first_seed: int) -> Prompt:
    for name in entry:
        if name not in FIELDS:
            raise ValueError(f"has the field {reprlib.repr(name)}; known: {', '.join(FIELDS)}")
    if "prompt" not in entry:
        raise ValueError("has no prompt")
    others = {name: entry[name] for name in _OTHER_TEXTS if entry.get(name) is not None}
    for name, text in {"prompt": entry["prompt"], **others}.items():
        if not isinstance(text, str):
            raise ValueError(f"has the {name} {reprlib.repr(text)}, expected a string")
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"has a {name} with characters that no file could hold: {reprlib.repr(text)}")
    seed: Any = first_seed + index if entry.get("seed") is None else entry["seed"]
    if type(seed) is not int or not 0 <= seed <= LAST_SEED:
        raise ValueError(f"has the seed {reprlib.repr(seed)}, expected a whole number from 0 to 2^63 - 1")
    label: Any = f"{index:06d}" if entry.get("id") is None else entry["id"]
    label = str(label) if type(label) is int else label
    if not isinstance(label, str) or not _ID.fullmatch(label):
        raise ValueError(f"has the id {reprlib.repr(label)}; an id names a file: up to 100 of A-Z a-z 0-9 - _ and .")
    further = {name: entry.get(name) for name in (*_OTHER_TEXTS, *OF_PICTURES, "guidance")}
    return Prompt(index, label, entry["prompt"], seed, **further)


def _beside(path: Path, entry: Entry) -> Entry:
    """The fields of a line, with pictures' files relative to the prompt file, and strength and guidance as numbers."""
    found = dict(entry)
    for name in ("image", "mask"):
        if found.get(name) is None:
            continue
        if not isinstance(found[name], str):
            raise ValueError(f"has the {name} {reprlib.repr(found[name])}, expected the name of a file")
        if "://" not in found[name]:
            found[name] = str(path.parent / found[name])
        try:
            open_picture(found[name])
        except ValueError as error:
            raise ValueError(f"has an {name} that cannot be used: {error}") from error
    if found.get("strength") is not None:
        try:
            found["strength"] = float(found["strength"])
        except (TypeError, ValueError):
            raise ValueError(f"has the strength {reprlib.repr(found['strength'])}, expected a number") from None
        ARGUMENTS["strength"].read("strength", found["strength"])
    if found.get("guidance") is not None:
        found["guidance"] = _guidance(found["guidance"])
    return found


def _guidance(value: Any) -> float | str:
    """A number, or the text of a rule; both are checked."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        if not isinstance(value, str):
            raise ValueError(f"has the guidance {reprlib.repr(value)}, expected a number or text") from None
    ARGUMENTS["guidance"].read("guidance", value)
    return cast(float | str, value)


def _check_alike(prompts: Sequence[Prompt], prompt: Prompt) -> None:
    """Check that a line has a picture, mask and source prompt if the lines before it have, and none otherwise."""
    for name in ("image", "mask", "source_prompt"):
        if prompts and (getattr(prompt, name) is None) != (getattr(prompts[0], name) is None):
            raise ValueError(f"has {'no' if getattr(prompt, name) is None else 'an'} {name}, unlike the lines before")
