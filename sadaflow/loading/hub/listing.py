"""Reads the Hub's listing of a repository: its commit and its files. Nothing in it is trusted."""

from typing import Any
from urllib.parse import quote

from huggingface_hub import constants

from .cache import RepoFile, is_commit, stays_inside
from .options import HubOptions
from .transport import read_json

_LARGEST = 2**50
_LONGEST_NAME = 1024


def read_listing(name: str, hub: HubOptions) -> tuple[str, tuple[RepoFile, ...]]:
    """Ask the Hub for the commit and the files of a repository, in one request.

    Args:
        name: Hub id, "owner/name".
        hub: How the Hub is reached; its revision is listed.

    Raises:
        ValueError: If the reply is not a listing. The field is named.
        Exception: Whatever huggingface_hub and its client raise; `explained` translates it.
    """
    from huggingface_hub.utils import validate_repo_id  # slow to import

    validate_repo_id(name)
    if hub.revision is not None and not stays_inside(hub.revision):
        raise ValueError(f"revision={hub.revision!r} is not a branch, tag or commit")
    endpoint = (hub.endpoint or constants.ENDPOINT).rstrip("/")
    revision = "" if hub.revision is None else f"/revision/{quote(hub.revision, safe='')}"
    return parse_listing(read_json(f"{endpoint}/api/models/{name}{revision}?blobs=true", hub), name)


def parse_listing(found: Any, name: str) -> tuple[str, tuple[RepoFile, ...]]:
    """The commit and the files of a listing; raises ValueError if it is malformed. The field is named."""
    label = f"the Hub's listing of {name!r}"
    if not isinstance(found, dict):
        raise ValueError(f"{label} is a {type(found).__name__}, expected an object")
    commit = found.get("sha")
    if not isinstance(commit, str) or not is_commit(commit):
        raise ValueError(f"the Hub names {str(commit)[:80]!r} as the commit of {name!r}: not a commit id")
    entries = found.get("siblings") or []
    if not isinstance(entries, list):
        raise ValueError(f"{label}: siblings is a {type(entries).__name__}, expected a list of files")
    files = tuple(_file(entry, label) for entry in entries)
    if len({file.name for file in files}) < len(files):
        raise ValueError(f"{label} has a file twice")
    return commit, files


def _file(entry: Any, label: str) -> RepoFile:
    if not isinstance(entry, dict):
        raise ValueError(f"{label}: a file is a {type(entry).__name__}, expected an object")
    name = entry.get("rfilename")
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
        raise ValueError(f"{label}: the name of a file is {str(name)[:80]!r}")
    large = entry.get("lfs")
    if large is not None and not isinstance(large, dict):
        raise ValueError(f"{label}: lfs of {name[:200]!r} is {str(large)[:80]!r}, expected an object")
    digest = large.get("sha256") if large else entry.get("blobId")
    if digest is not None and not isinstance(digest, str):
        raise ValueError(f"{label}: the checksum of {name[:200]!r} is {str(digest)[:80]!r}")
    size = entry.get("size")
    if size is not None and (type(size) is not int or not 0 <= size <= _LARGEST):
        raise ValueError(f"{label}: the size of {name[:200]!r} is {str(size)[:80]!r}")
    return RepoFile(name, size, digest)
