"""Fetches files of a repository on the Hub into huggingface_hub's cache, and verifies each of them.

Transport, cache and environment (HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN) are huggingface_hub's.
"""

import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import huggingface_hub
from huggingface_hub import constants

from ..json_file import read_object
from .cache import RepoFile, RepositoryCache, is_commit, is_plain_name, stays_inside
from .errors import explained, temporary
from .layout import component_names, needed_component, needed_files
from .options import HubOptions

Result = TypeVar("Result")

# Seconds to wait before each further request if the Hub names no pause, and the longest pause that is accepted.
_PAUSES, _LONGEST_PAUSE = (1.0, 2.0, 4.0), 60.0
_ATTEMPTS = 2
_WORKERS = 8


@dataclass(frozen=True)
class Repository:
    """A repository on the Hub at one commit.

    Attributes:
        name: Its id, "owner/name".
        hub: How the Hub is reached.
        commit: The commit that `hub.revision` stands for.
        files: All files at this commit.
    """

    name: str
    hub: HubOptions
    commit: str
    files: tuple[RepoFile, ...]

    @classmethod
    def open(cls, name: str, hub: HubOptions) -> "Repository":
        """Ask the Hub for the commit and the files of a repository, in one request.

        Raises:
            ValueError: If the reply does not name a commit.
            Exception: Whatever huggingface_hub raises; `explained` translates it.
        """
        api = huggingface_hub.HfApi(endpoint=hub.endpoint, token=hub.token)
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        info = _patiently(lambda: api.model_info(name, revision=hub.revision, files_metadata=True, timeout=timeout))
        if not is_commit(info.sha or ""):
            raise ValueError(f"the Hub names {str(info.sha)[:80]!r} as the commit of {name!r}: not a commit id")
        files = (
            RepoFile(file.rfilename, file.size, file.lfs.sha256 if file.lfs else file.blob_id)
            for file in info.siblings or ()
        )
        return cls(name, hub, str(info.sha), tuple(files))

    @property
    def cache(self) -> RepositoryCache:
        return RepositoryCache.of(self.name, self.hub.cache_dir)

    @property
    def root(self) -> Path:
        """The folder that fetched files are in."""
        return self.cache.root / "snapshots" / self.commit

    def file(self, name: str) -> RepoFile:
        """The file of that name; raises FileNotFoundError if the repository does not have it."""
        found = next((file for file in self.files if file.name == name), None)
        if found is None:
            hint = ": it is not a pipeline in the Hub's layout" if name == "model_index.json" else ""
            raise FileNotFoundError(f"repository {self.name!r} has no {name}{hint}")
        return found

    def read(self, name: str) -> dict[str, Any]:
        """Fetch the JSON file `name` and read the object in it."""
        return read_object(self.fetch([self.file(name)]) / name)

    def needed(self, index: Mapping[str, Any] | None) -> list[RepoFile]:
        """The files that a checkpoint is loaded from.

        Args:
            index: The model_index.json of a pipeline; None for a repository that is a single component.
        """
        names = [file.name for file in self.files]
        if index is None:
            chosen = set(needed_component(names, "", self.hub.variant))
        else:
            components = component_names(index, f"{self.name}/model_index.json")
            chosen = set(needed_files(names, components, self.hub.variant))
        return [file for file in self.files if file.name in chosen]

    def fetch(self, files: Sequence[RepoFile]) -> Path:
        """Download what the cache lacks of `files`, and verify size and digest.

        A cached file is downloaded again if its size, or the digest of a small file, is not the listed one. Digests of
        cached weight files are not computed. A file that arrives damaged is removed and downloaded once more.

        Returns:
            The folder with the files under their names.

        Raises:
            ValueError: If a name, or a header of the Hub, leads out of the cache folder.
            OSError: If a file arrives damaged twice.
        """
        for file in files:
            if not stays_inside(file.name):
                raise ValueError(f"repository {self.name!r} lists {file.name[:200]!r}, which leads out of its folder")
        missing = [file for file in files if not self._is_cached(file)]
        if missing:
            with ThreadPoolExecutor(_WORKERS) as pool:
                list(pool.map(self._check_headers, missing))
        for attempt in range(_ATTEMPTS):
            if not missing:
                break
            self._download(missing, last=attempt == _ATTEMPTS - 1)
            missing = [file for file in missing if not self._is_intact(file)]
        if missing:
            names = ", ".join(file.name for file in missing[:5])
            raise OSError(f"damaged in {_ATTEMPTS} downloads, of another size or checksum than listed: {names}")
        self.cache.record(self.hub.revision, self.commit)
        return self.root

    def _download(self, files: Sequence[RepoFile], last: bool) -> None:
        # The names are passed as patterns, in which "*", "?" and "[" have to stand for themselves.
        patterns = [re.sub(r"([*?[])", r"[\1]", file.name) for file in files]
        hub = self.hub
        try:
            huggingface_hub.snapshot_download(
                self.name,
                revision=self.commit,
                cache_dir=self.cache.cache_dir,
                token=hub.token,
                endpoint=hub.endpoint,
                allow_patterns=patterns,
            )
        except OSError as error:
            # huggingface_hub's own comparison of sizes raises a bare OSError; others have a class or an errno.
            if last or type(error) is not OSError or error.errno is not None:
                raise

    def _is_cached(self, file: RepoFile) -> bool:
        return self._is_intact(file, digest=not file.name.endswith(".safetensors"))

    def _is_intact(self, file: RepoFile, *, digest: bool = True) -> bool:
        """Compare the cached copy of a file with the listing; what differs is removed."""
        path, cache = self.root / file.name, self.cache
        if not cache.contains(path):
            cache.remove(path)
            return False
        if not path.is_file():
            return False
        if file.matches(path, digest=digest):
            return True
        cache.remove(path)
        return False

    def _check_headers(self, file: RepoFile) -> None:
        """Raise ValueError if headers, from which huggingface_hub makes paths, lead out of the cache folder.

        huggingface_hub requests them again. A server that then sends others could still write a file outside; what is
        read or removed is always checked to be inside.
        """
        url = huggingface_hub.hf_hub_url(self.name, file.name, revision=self.commit, endpoint=self.hub.endpoint)
        found = _patiently(lambda: huggingface_hub.get_hf_file_metadata(url, token=self.hub.token))
        for header, value in (("ETag", found.etag), ("X-Repo-Commit", found.commit_hash)):
            if value is not None and not is_plain_name(value):
                raise ValueError(f"{header} of {file.name} in {self.name!r} is {value[:80]!r}: not a digest or commit")


def fetch(name: str, hub: HubOptions, choose: Callable[[Repository], Sequence[RepoFile]], marker: str | None) -> Path:
    """Fetch files of repository `name`; without a connection take the cached copy, with a warning.

    Args:
        name: Hub id, "owner/name".
        hub: How the Hub is reached.
        choose: From the repository to the files to fetch.
        marker: A file that a cached copy must have; None if any will do.

    Returns:
        The folder with the files under their names.

    Raises:
        FileNotFoundError: If the repository, its revision or a file does not exist.
        PermissionError: If the repository is gated or the token is not accepted.
        ConnectionError: If the Hub cannot be reached and the cache has no copy.
        OSError: If a file arrives damaged twice.
        ValueError: If a file name or header of the repository leads out of the cache folder.
    """
    try:
        if hub.offline:
            return _cached(name, hub, marker)
        try:
            repository = Repository.open(name, hub)
        except Exception as error:
            if not temporary(error) or not _has_cached(name, hub, marker):
                raise
            warnings.warn(f"the Hub cannot be reached ({error}); {name!r} is taken from the cache", stacklevel=4)
            return _cached(name, hub, marker)
        return repository.fetch(choose(repository))
    except Exception as error:
        raise explained(error, name, hub.revision) from error


def _has_cached(name: str, hub: HubOptions, marker: str | None) -> bool:
    root = RepositoryCache.of(name, hub.cache_dir).snapshot(hub.revision)
    return root is not None and (marker is None or (root / marker).is_file())


def _cached(name: str, hub: HubOptions, marker: str | None) -> Path:
    from huggingface_hub import errors  # with an HTTP client, slow to import

    cache = RepositoryCache.of(name, hub.cache_dir)
    root = cache.snapshot(hub.revision)
    if root is None or not _has_cached(name, hub, marker):
        raise errors.LocalEntryNotFoundError(f"{name!r} is not in the cache {cache.cache_dir}")
    cache.require_inside(root)
    return root


def _patiently(ask: Callable[[], Result]) -> Result:
    """Send a request up to four times while the Hub replies that it is busy (429, 5xx), after the pause it names.

    An address that does not respond is not tried again.
    """
    from huggingface_hub import errors  # with an HTTP client, slow to import

    pauses = iter(_PAUSES)
    while True:
        try:
            return ask()
        except errors.HfHubHTTPError as error:
            pause = next(pauses, None)
            named = error.response.headers.get("Retry-After", "") if pause is not None else ""
            pause = float(named) if named.isdigit() else pause
            if pause is None or pause > _LONGEST_PAUSE or not temporary(error):
                raise
        time.sleep(pause)
