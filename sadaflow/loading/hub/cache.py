"""The folder of one repository in huggingface_hub's cache; no function here leaves the cache."""

import hashlib
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from huggingface_hub import constants

_COMMIT = re.compile(r"[0-9a-f]{40}")


_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SMALL = 64 * 2**20


@dataclass(frozen=True)
class RepoFile:
    """A file as the Hub lists it.

    Attributes:
        name: Path inside the repository.
        size: Size in bytes, if listed.
        digest: SHA-256 of large files, git object id of the others, in hexadecimal; None if not listed.
    """

    name: str
    size: int | None
    digest: str | None

    def matches(self, path: Path, *, digest: bool = True) -> bool:
        """Compare a file on disk with the listed size and, unless `digest` is False, with the listed digest.

        Digests that are neither SHA-256 nor git object ids, which mirrors may list, are not compared.
        """
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return False
        expected = (self.digest or "").lower()
        if not digest or len(expected) not in (40, 64):
            return True
        with path.open("rb") as content:
            if len(expected) == 64:
                return hashlib.file_digest(content, "sha256").hexdigest() == expected
            found = hashlib.file_digest(content, lambda: hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False))
            return found.hexdigest() == expected


def is_commit(value: str) -> bool:
    """Whether `value` is the full hexadecimal id of a commit."""
    return _COMMIT.fullmatch(value) is not None


def stays_inside(name: str) -> bool:
    """Whether the relative path `name` stays inside the folder it is joined to, on every operating system."""
    posix = name.replace("\\", "/")
    parts = posix.split("/")
    paths = (PurePosixPath(posix), *map(PureWindowsPath, parts))
    return bool(name) and "\0" not in name and ".." not in parts and not any(path.anchor for path in paths)


@dataclass(frozen=True)
class RepositoryCache:
    """The cached files of one repository.

    Attributes:
        cache_dir: Absolute path of the cache, which holds all repositories.
        root: Folder of the repository in it, with `refs`, `snapshots` and `blobs`.
    """

    cache_dir: Path
    root: Path

    @classmethod
    def of(cls, name: str, cache_dir: str | os.PathLike[str] | None) -> "RepositoryCache":
        """The cache of repository `name`, in `cache_dir` or huggingface_hub's default."""
        from huggingface_hub.file_download import repo_folder_name  # with an HTTP client, slow to import

        folder = Path(constants.HF_HUB_CACHE if cache_dir is None else cache_dir).expanduser().resolve()
        return cls(folder, folder / repo_folder_name(repo_id=name, repo_type="model"))

    def snapshot(self, revision: str | None) -> Path | None:
        """The folder of the files of a branch, tag or commit as of the last download; None if there is none."""
        commit = revision or constants.DEFAULT_REVISION
        if not is_commit(commit):
            reference = self._reference(commit)
            commit = _first_line(reference) if reference.is_file() and self.contains(reference) else ""
        folder = self.root / "snapshots" / commit
        return folder if is_commit(commit) and folder.is_dir() else None

    def record(self, revision: str | None, commit: str) -> None:
        """Note that a branch or tag is at `commit`, so that it is found without the Hub."""
        name = revision or constants.DEFAULT_REVISION
        if name == commit or self.snapshot(name) == self.root / "snapshots" / commit:
            return
        reference = self._reference(name)
        temporary = reference.with_name(f"{reference.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            self.make_folder(reference.parent)
            temporary.unlink(missing_ok=True)
            temporary.write_text(commit, "utf-8")
            temporary.replace(reference)
        except OSError:  # a cache that is read-only, or full: the branch is asked for again next time
            return

    def contains(self, path: Path) -> bool:
        """Whether `path`, with all links followed, is in the cache.

        The folder of the repository, or its blobs, may be links to another disk that the user has made.
        """
        resolved = path.resolve()
        folders = (self.cache_dir, self.root.resolve(), (self.root / "blobs").resolve())
        return any(resolved.is_relative_to(folder) for folder in folders)

    def require_contained(self, path: Path) -> None:
        """Raise ValueError if `path`, with all links followed, is not in the cache."""
        if not self.contains(path):
            raise ValueError(
                f"{path} leads out of the cache {self.cache_dir}, to {path.resolve()}: remove this link and "
                "download the file again, or pass a folder of your own in place of the id"
            )

    def make_folder(self, folder: Path) -> None:
        """Create a folder in the cache; raises ValueError if a link on the way to it leads out."""
        self.require_contained(folder)
        folder.mkdir(parents=True, exist_ok=True)

    def require_inside(self, folder: Path) -> None:
        """Raise ValueError if a file in `folder` is a link that leads out of the cache."""
        for path in folder.rglob("*"):
            self.require_contained(path)

    def require_intact(self, folder: Path) -> None:
        """Raise OSError if a small file in `folder` does not have the digest that is its name in the cache."""
        for path in folder.rglob("*"):
            name = path.resolve().name
            if not path.is_file() or not _DIGEST.fullmatch(name) or path.stat().st_size > _SMALL:
                continue
            if not RepoFile(path.name, None, name).matches(path):
                raise OSError(f"{path} is damaged; connect to the Hub and load again, it is then downloaded again")

    def remove(self, path: Path) -> None:
        """Remove a file, and what it links to as far as that is in the cache."""
        while self.contains(path.parent):
            target = path.parent / path.readlink() if path.is_symlink() else None
            path.unlink(missing_ok=True)
            if target is None:
                return
            path = target

    def _reference(self, revision: str) -> Path:
        if not stays_inside(revision):
            raise ValueError(f"revision={revision!r} is not a branch, tag or commit")
        return self.root / "refs" / revision


def _first_line(reference: Path) -> str:
    with reference.open("rb") as file:
        return file.read(100).decode("utf-8", "replace").strip()
