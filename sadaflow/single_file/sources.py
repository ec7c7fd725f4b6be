"""Where a single file and what it lacks come from: local paths, or ids of the Hub."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import errors, hf_hub_download, snapshot_download

_FILE_ID = re.compile(r"([\w.-]+/[\w.-]+)/(.+\.(?:safetensors|sft))")


def locate_file(model: str | os.PathLike[str], **place: Any) -> Path:
    """The file `model`: a path, or "owner/name/file.safetensors" on the Hub.

    `place` are revision, cache_dir, token and local_files_only, as huggingface_hub takes them. Raises ValueError for
    what is neither, FileNotFoundError and ConnectionError where it cannot be had.
    """
    path = Path(model)
    if path.is_file():
        return path
    match = _FILE_ID.fullmatch(str(model))
    if match is None or ".." in str(model).split("/") or path.is_absolute():
        raise ValueError(f"{str(model)!r} is neither a file nor of the form owner/name/file.safetensors on the Hub")
    try:
        return Path(hf_hub_download(match[1], match[2], **place))
    except Exception as error:
        raise _explained(error, str(model)) from error


def locate_folder(model: str | os.PathLike[str], patterns: Sequence[str], **place: Any) -> Path:
    """The folder `model`, or that of a repository of the Hub, of which only the files of the `patterns` are fetched."""
    folder = Path(model)
    if folder.is_dir():
        return folder
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(model)):
        raise ValueError(f"{str(model)!r} is neither a folder nor a Hub id of the form owner/name")
    try:
        return Path(snapshot_download(str(model), allow_patterns=list(patterns), **place))
    except Exception as error:
        raise _explained(error, str(model)) from error


def locate_parts(model: str | os.PathLike[str], components: Sequence[str], **place: Any) -> Path:
    """The folder of a checkpoint in the Hub's layout, of which only the folders `components` are downloaded."""
    patterns = [f"{part}/*.{end}" for part in components for end in ("json", "txt", "model", "safetensors")]
    return locate_folder(model, patterns, **place)


def _explained(error: Exception, name: str) -> Exception:
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(f"{name!r} is gated: accept its licence on the Hub and pass token= or set HF_TOKEN")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return ConnectionError(f"{name!r} is not in the local cache and the Hub cannot be reached (or is switched off)")
    if isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError)):
        return FileNotFoundError(f"the Hub has no {name!r}, or it is private and needs token=")
    if isinstance(error, (OSError, errors.HfHubHTTPError)) or type(error).__module__.startswith("httpx"):
        return ConnectionError(f"the Hub cannot be reached for {name!r} ({type(error).__name__}: {error})")
    return error
