"""From a Hub id or a folder to a local folder in the Hub's layout, downloading only the files that are needed.

Transport, cache and environment (HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN) are huggingface_hub's.
"""

import hashlib
import os
import re
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants

from ..json_file import read_object
from .errors import explained, temporary
from .layout import component_names, needed_component, needed_files

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Seconds before the Hub is asked again where its answer names none, and the longest that it may ask for.
_WAITS, _LONGEST_WAIT = (1.0, 2.0, 4.0), 60.0


@dataclass(frozen=True)
class RepoFile:
    """A file of a repository: its size in bytes, and the SHA-256 (large files) or git object id (others) it has."""

    name: str
    size: int | None
    digest: str | None


def resolve(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    marker: str = "model_index.json",
    endpoint: str | None = None,
    weights: bool = True,
) -> Path:
    """A local folder that holds `model`, which is a folder already or a Hub id ("owner/name") to be downloaded.

    `marker` is the file by which it is known: that of a pipeline, or "config.json" for a single component. `endpoint`
    is the Hub's address, None for that of HF_ENDPOINT. Without `weights` only the small files are downloaded: configs
    and tokenizers. Where the Hub cannot be reached a cached copy is taken, with
    a warning. A downloaded file whose size or checksum is not the one the Hub lists is removed again.
    Raises FileNotFoundError for a folder that is no checkpoint, ValueError for what is neither, ConnectionError for
    a Hub that cannot be reached, PermissionError for a gated repository and OSError for a damaged download; each names
    the next step.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / marker).is_file():
            raise FileNotFoundError(f"{folder} is no checkpoint in the Hub's layout: it has no {marker}")
        return folder
    name = str(model)
    if folder.exists() or not is_hub_id(name):
        raise ValueError(f"{name!r} is neither a folder in the Hub's layout nor a Hub id of the form owner/name")
    place = {"repo_id": name, "revision": revision, "cache_dir": cache_dir, "token": token, "endpoint": endpoint}
    try:
        if local_files_only or constants.HF_HUB_OFFLINE:
            return _cached(place, marker)
        try:
            listed = list_files(name, revision=revision, token=token, endpoint=endpoint)
        except Exception as error:
            if not temporary(error) or (copy := _cached_or_none(place, marker)) is None:
                raise
            warnings.warn(f"the Hub cannot be reached ({error}); {name!r} is taken from the cache", stacklevel=3)
            return copy
        return _download(place, listed, marker, variant, weights)
    except Exception as error:
        raise explained(error, name, revision, marker) from error


def resolve_file(
    model: str,
    file: str,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """One small file of the repository `model` on the Hub; raises as `resolve`."""
    if not is_hub_id(model):
        raise ValueError(f"{model!r} is neither a file, nor a folder, nor a Hub id of the form owner/name")
    place: dict[str, Any] = {"cache_dir": cache_dir, "token": token, "local_files_only": local_files_only}
    try:
        return Path(huggingface_hub.hf_hub_download(model, file, **place))
    except Exception as error:
        raise explained(error, model, None, file) from error


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form of a Hub id; whether the Hub has it is another question."""
    return _HUB_ID.fullmatch(name) is not None


def list_files(
    name: str, *, revision: str | None = None, token: str | bool | None = None, endpoint: str | None = None
) -> list[RepoFile]:
    """The files of repository `name` as the Hub lists them, in one request.

    It is asked four times while it says to come back later (429, 5xx), after the pause that it names; an address that
    does not answer is not tried again. Raises what huggingface_hub raises.
    """
    from huggingface_hub import errors  # with an HTTP client, slow to import

    api = huggingface_hub.HfApi(endpoint=endpoint, token=token)
    waits = iter(_WAITS)
    while True:
        try:
            timeout = constants.HF_HUB_ETAG_TIMEOUT
            info = api.model_info(name, revision=revision, files_metadata=True, timeout=timeout)
            break
        except errors.HfHubHTTPError as error:
            pause = next(waits, None)
            asked = error.response.headers.get("Retry-After", "") if pause is not None else ""
            pause = float(asked) if asked.isdigit() else pause
            if pause is None or pause > _LONGEST_WAIT or not temporary(error):
                raise
        time.sleep(pause)
    return [
        RepoFile(one.rfilename, one.size, one.lfs.sha256 if one.lfs else one.blob_id) for one in info.siblings or ()
    ]


def wanted_files(
    listed: list[RepoFile], index: Mapping[str, Any] | None, variant: str | None, place: str
) -> list[RepoFile]:
    """Of the `listed` files, those that are downloaded: of a pipeline with this `index`, or of a single component."""
    names = [file.name for file in listed]
    if index is None:
        chosen = set(needed_component(names, "", variant))
    else:
        chosen = set(needed_files(names, component_names(index, place), variant))
    return [file for file in listed if file.name in chosen]


def read_index(place: Mapping[str, Any]) -> dict[str, Any]:
    """The model_index.json of a repository, downloaded unless it is in the cache."""
    return read_object(Path(huggingface_hub.hf_hub_download(filename="model_index.json", **place)))


def _download(
    place: Mapping[str, Any], listed: list[RepoFile], marker: str, variant: str | None, weights: bool
) -> Path:
    index = None if marker == "config.json" else read_index(place)
    wanted = wanted_files(listed, index, variant, f"{place['repo_id']}/model_index.json")
    if not weights:
        wanted = [file for file in wanted if not file.name.endswith(".safetensors")]
    if (root := _cached_or_none(place, marker)) is not None:
        for file in wanted:  # what a full disk or a crash left behind
            if (root / file.name).is_file() and not _whole(root / file.name, file.size):
                _discard(root / file.name)
    before = {file.name for file in wanted if root is not None and (root / file.name).is_file()}
    # The names are given as patterns: what could be read as one stands for itself.
    patterns = [re.sub(r"([*?[])", r"[\1]", file.name) for file in wanted]
    found = Path(huggingface_hub.snapshot_download(**place, allow_patterns=patterns))
    for file in wanted:
        if file.name not in before or found != root:
            _verify(found / file.name, file)
    return found


def _cached(place: Mapping[str, Any], marker: str) -> Path:
    return Path(huggingface_hub.hf_hub_download(filename=marker, local_files_only=True, **place)).parent


def _cached_or_none(place: Mapping[str, Any], marker: str) -> Path | None:
    from huggingface_hub import errors  # with an HTTP client, slow to import

    try:
        return _cached(place, marker)
    except errors.LocalEntryNotFoundError:
        return None


def _whole(path: Path, size: int | None) -> bool:
    return size is None or path.stat().st_size == size


def _verify(path: Path, file: RepoFile) -> None:
    """Raise OSError for a file that is not the one listed, and remove it from the cache.

    Digests of other kinds than the Hub's two, which mirrors may list, are not compared.
    """
    if not path.is_file():
        raise OSError(f"{file.name} was listed but not downloaded")
    kinds = {64: (hashlib.sha256, b""), 40: (hashlib.sha1, b"blob %d\0" % path.stat().st_size)}
    make, salt = kinds.get(len(file.digest or ""), (None, b""))
    found = None
    if make is not None:
        digest = make(salt)
        with path.open("rb") as content:
            while block := content.read(2**20):
                digest.update(block)
        found = digest.hexdigest()
    if not _whole(path, file.size) or found not in (None, file.digest):
        _discard(path)
        raise OSError(f"{file.name} arrived damaged (its size or checksum is not the one listed) and was removed")


def _discard(path: Path) -> None:
    """Remove a file of the cache: the pointer and what it points to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
