"""The file header.json of a bench: reading it, and comparing it with a suite."""

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Final

from ...files.own_json import Fields, check_fields, read_record
from ..suite.model import Suite
from .lines import Record

FORMAT: Final = 2
"""Version of the files in the folder."""

_HEADER: Final[Fields] = {"name": str, "suite": str, "models": dict, "sessions": list}
_IDENTITY: Final[Fields] = {"sadaflow": str, "torch": str, "device": str, "dtype": str}
_SESSION: Final[Fields] = {
    **{"python": str, "platform": str, "hardware": str, "cores": (int, NoneType), "threads": int, "source": str}
}
_METRIC: Final[Fields] = {"kind": str, "lower is better": bool, "source": str}


def new_header(suite: Suite, identity: Mapping[str, str]) -> Record:
    """Returns the header of a folder that is begun."""
    header = {"format": FORMAT, "name": suite.name, "suite": suite.text, **identity, "models": {}, "sessions": []}
    return header | ({"samples": _samples(suite)} if suite.given else {})


def read_header(file: Path) -> Record:
    """Reads a header.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is damaged, of another version, or not that of a bench. The field is named.
    """
    try:
        header = read_record(file, {})
        if not _HEADER.keys() <= header.keys():
            raise ValueError(f"{file} is not the header of a bench")
        if header.get("format") != FORMAT:
            found = str(header.get("format"))[:80]
            raise ValueError(f"{file} is of format {found}, but this version reads format {FORMAT}")
        check_fields(header, {**_HEADER, **_IDENTITY}, str(file))
        _check_entries(header, str(file))
    except ValueError as error:
        raise ValueError(f"{error}; name another folder") from error
    return header


def _check_entries(header: Record, label: str) -> None:
    for number, session in enumerate(header["sessions"]):
        check_fields(session, _SESSION, f"{label}, sessions[{number}]")
    check_fields(header["models"], dict.fromkeys(header["models"], str), f"{label}, models")
    metrics = header.get("metrics", {})
    check_fields(metrics, dict.fromkeys(metrics, dict) if isinstance(metrics, dict) else {}, f"{label}, metrics")
    for name, metric in metrics.items():
        check_fields(metric, _METRIC, f"{label}, metrics.{name[:80]}")
    samples = header.get("samples", [])
    if not isinstance(samples, list) or not all(_is_sample(sample) for sample in samples):
        raise ValueError(f"{label} is damaged (samples is not a list of prompts and seeds)")


def _is_sample(value: Any) -> bool:
    return isinstance(value, list) and [type(entry) for entry in value] == [str, int]


def check_same(path: Path, header: Record, suite: Suite, identity: Mapping[str, str], *, samples: bool = True) -> None:
    """Checks that the folder `path` was begun with this suite and identity.

    Args:
        path: The folder.
        header: Its header.
        suite: The suite.
        identity: Versions and the like.
        samples: Whether the list of samples is compared as well.

    Raises:
        ValueError: If something differs. It is named.
    """
    expected = {"name": suite.name, "suite": suite.text, **identity}
    if samples:
        expected["samples"] = _samples(suite)
    for name, value in expected.items():
        if header.get(name) != value:
            values = "" if name in ("suite", "samples") else f" ({header.get(name)}, now {value})"
            what = "list of samples (--prompts)" if name == "samples" else name
            raise ValueError(f"{path} was begun with another {what}{values}: start again in another folder")


def _samples(suite: Suite) -> Any:
    return [[sample.prompt, sample.seed] for sample in suite.samples] if suite.given else None
