"""Downloads one file of a repository into huggingface_hub's cache, verified.

Its name in the cache follows from the listing alone: what a server sends with the file (headers, redirects) is never a
part of a path.
"""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import transport
from .cache import RepoFile, RepositoryCache
from .errors import broken, out_of_range
from .options import HubOptions
from .transport import file_url, opened, paced

_ATTEMPTS: Final = 2
_TRIES: Final = 5
"""Broken connections in a row that bring little before a download is given up."""
_UNLISTED: Final = 64 * 2**20
"""Bytes of the largest file that is fetched without a listed size."""

Advance = Callable[[int], object]


class Damaged(OSError):
    """A file arrived with another size or checksum than listed."""


class Stopped(Exception):
    """The download of another file has failed."""


@dataclass(frozen=True)
class Download:
    """What the files of a download share.

    Attributes:
        name: Hub id.
        commit: The commit whose files are fetched.
        hub: How the Hub is reached.
        cache: Where files are kept.
        stop: Set when the other files of the download need not be fetched any more.
        advance: Called with numbers of bytes that have arrived.
    """

    name: str
    commit: str
    hub: HubOptions
    cache: RepositoryCache
    stop: threading.Event
    advance: Advance = lambda size: None

    @property
    def root(self) -> Path:
        return self.cache.root / "snapshots" / self.commit

    def fetch(self, file: RepoFile) -> None:
        """Fetch and verify a file, and give it its name in the folder of the commit.

        Raises:
            Damaged: If it arrives damaged twice.
            ValueError: If its name, or a link in the cache, leads out of the cache.
            OSError: If it cannot be written.
            Exception: Whatever huggingface_hub and its client raise; `explained` translates it.
        """
        pointer = self.root / file.name
        for folder in (self.cache.root / "blobs", pointer.parent):
            self.cache.make_folder(folder)
        blob = self.cache.root / "blobs" / blob_name(file)
        with self._locked(blob):
            if blob.is_symlink() or not (blob.is_file() and file.matches(blob)):
                blob.unlink(missing_ok=True)
                self._fetch_verified(file, blob)
        _link(blob, pointer)

    def _fetch_verified(self, file: RepoFile, blob: Path) -> None:
        partial = blob.with_name(f"{blob.name}.incomplete")
        if partial.is_symlink():
            partial.unlink()
        for _ in range(_ATTEMPTS):
            with _naming(partial):
                if self._receive(file, partial) and file.matches(partial):
                    partial.replace(blob)
                    return
            partial.unlink(missing_ok=True)
        raise Damaged(file.name)

    def _receive(self, file: RepoFile, partial: Path) -> bool:
        """Receive the rest of a file, over several connections if they break.

        Returns:
            Whether it has the listed size, if there is one.
        """
        most = _UNLISTED if file.size is None else file.size
        tries = 0
        while True:
            had = partial.stat().st_size if partial.exists() else 0
            if had > most or (had and file.size is None):
                partial.unlink()
                had = 0
            if file.size is not None and had == file.size:
                partial.touch()
                return True
            try:
                return self._append(file, partial, had, most)
            except Exception as error:
                if had and out_of_range(error):
                    return False
                held = partial.stat().st_size if partial.exists() else 0
                tries = 0 if held - had >= transport.PATIENCE.least else tries + 1
                if not broken(error) or tries == _TRIES or not held:
                    raise
                time.sleep(transport.PATIENCE.pauses[0])

    def _append(self, file: RepoFile, partial: Path, had: int, most: int) -> bool:
        url = file_url(self.name, file.name, self.commit, self.hub)
        with opened(url, self.hub, f"{had}-" if had else None) as body:
            if body.start not in (0, had):
                return False
            with partial.open("r+b" if had else "wb") as target:
                target.seek(body.start)
                target.truncate()
                for piece in paced(body.pieces, f"the download of {file.name}"):
                    if self.stop.is_set():
                        raise Stopped
                    if target.tell() + len(piece) > most:
                        return False
                    target.write(piece)
                    self.advance(len(piece))
                return file.size is None or target.tell() == file.size

    @contextmanager
    def _locked(self, blob: Path) -> Iterator[None]:
        """Hold the lock that huggingface_hub has for this file; waits while another process downloads it."""
        from filelock import Timeout
        from huggingface_hub.utils import WeakFileLock  # slow to import

        folder = self.cache.cache_dir / ".locks" / self.cache.root.name
        self.cache.make_folder(folder)
        before = -1
        while True:
            try:
                with WeakFileLock(folder / f"{blob.name}.lock", timeout=transport.PATIENCE.window):
                    yield
                return
            except Timeout:
                size = max((path.stat().st_size for path in blob.parent.glob(f"{blob.name}.*incomplete")), default=0)
                if size == before:
                    raise TimeoutError(
                        f"another process holds the lock of {blob}, and has received nothing for "
                        f"{transport.PATIENCE.window:g} seconds: end it, or remove {folder / blob.name}.lock"
                    ) from None
                before = size


def blob_name(file: RepoFile) -> str:
    """Name of a file's content in the cache: its digest, as in huggingface_hub's, or one of its description."""
    digest = (file.digest or "").lower()
    if len(digest) in (40, 64) and all(letter in "0123456789abcdef" for letter in digest):
        return digest
    return hashlib.sha256(f"{file.name}\n{file.size}\n{file.digest}".encode("utf-8", "replace")).hexdigest()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Context manager that adds `path` to errors of the operating system that name no file, such as a full disk."""
    try:
        yield
    except OSError as error:
        if type(error) is not OSError or error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _link(blob: Path, pointer: Path) -> None:
    """Give a blob its name in the folder of a commit, in one step: a relative link, or a copy where there are none."""
    part = pointer.with_name(f".{pointer.name[:100]}.{os.getpid()}.{threading.get_ident()}.part")
    part.unlink(missing_ok=True)
    try:
        try:
            part.symlink_to(os.path.relpath(blob.resolve(), pointer.parent.resolve()))
        except OSError:  # Windows without the right to make links
            shutil.copyfile(blob, part)
        part.replace(pointer)
    finally:
        part.unlink(missing_ok=True)
