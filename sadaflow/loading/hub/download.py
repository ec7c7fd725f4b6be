"""Fetches files of a repository on the Hub into huggingface_hub's cache, and verifies each of them.

The client, the layout of the cache and the environment (HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN)
are huggingface_hub's.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..json_file import read_object
from .blobs import Advance, Damaged, Download, Stopped
from .cache import RepoFile, RepositoryCache, stays_inside
from .errors import explained, temporary
from .layout import component_names, needed_component, needed_files
from .listing import read_listing
from .options import HubOptions

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
            ValueError: If the reply is not the listing of a repository at a commit.
            Exception: Whatever huggingface_hub raises; `explained` translates it.
        """
        return cls(name, hub, *read_listing(name, hub))

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
            ValueError: If a listed name, or a link in the cache, leads out of the cache folder.
            OSError: If a file arrives damaged twice.
        """
        for file in files:
            if not stays_inside(file.name):
                raise ValueError(f"repository {self.name!r} lists {file.name[:200]!r}, which leads out of its folder")
        missing = [file for file in files if not self._is_cached(file)]
        if missing:
            with _bytes_bar(self.name, sum(file.size or 0 for file in missing)) as advance:
                self._download(missing, advance)
        self.cache.record(self.hub.revision, self.commit)
        return self.root

    def _download(self, files: Sequence[RepoFile], advance: Advance) -> None:
        stop = threading.Event()
        download = Download(self.name, self.commit, self.hub, self.cache, stop, advance)
        damaged: list[str] = []

        def fetch(file: RepoFile) -> None:
            try:
                download.fetch(file)
            except Damaged:
                damaged.append(file.name)
            except Stopped:
                pass
            except BaseException:
                stop.set()
                raise

        pool = ThreadPoolExecutor(_WORKERS)
        try:
            list(pool.map(fetch, files))
        finally:  # after an error or Ctrl-C the other files are not waited for
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        if damaged:
            raise Damaged(f"damaged in 2 downloads, of another size or checksum than listed: {', '.join(damaged[:5])}")

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
        ValueError: If a file name of the repository, or a link in the cache, leads out of the cache folder.
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
    cache.require_intact(root)
    return root


@contextmanager
def _bytes_bar(name: str, total: int) -> Iterator[Advance]:
    """A progress bar of huggingface_hub, which its settings can switch off."""
    from huggingface_hub.utils import tqdm  # slow to import

    how = {"unit": "B", "unit_scale": True, "desc": name, "name": "huggingface_hub.download"}
    with tqdm(total=total, **how) as bar:  # type: ignore[no-untyped-call]
        yield bar.update
