"""Reads the files of an inspected checkpoint: a local folder, or a repository whose weights are not downloaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from ..loading.checkpoint import Checkpoint
from ..loading.embedded import checkpoint_files
from ..loading.hub.cache import RepoFile
from ..loading.hub.download import Repository
from ..loading.hub.layout import component_prefix, needed_component
from ..loading.hub.remote_header import read_remote_header
from ..loading.safetensors_file import Stored, read_headers


class Files(Protocol):
    """The files that an inspection reads."""

    @property
    def variant(self) -> str | None:
        """The variant of the weight files to prefer ("fp16")."""
        ...

    @property
    def files(self) -> list[RepoFile]:
        """All files, by their path inside the checkpoint."""
        ...

    def json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file."""
        ...

    def stored(self, file: str) -> tuple[Stored, ...]:
        """The tensors that the header of a weight file lists."""
        ...

    def checkpoint(self) -> Checkpoint:
        """The checkpoint, as loading reads it."""
        ...


@dataclass(frozen=True)
class LocalFiles:
    """The files of a local folder."""

    root: Path
    variant: str | None

    @property
    def files(self) -> list[RepoFile]:
        return [RepoFile(name, path.stat().st_size, None) for name, path in checkpoint_files(self.root).items()]

    def json(self, name: str) -> dict[str, Any]:
        return self.checkpoint().json(*name.split("/"))

    def stored(self, file: str) -> tuple[Stored, ...]:
        return tuple(read_headers([self.checkpoint().path(*file.split("/"))]))

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.root, self.variant, torch.float32, torch.device("cpu"))


@dataclass(frozen=True)
class RemoteFiles:
    """The files of a repository; of each weight file only the header is downloaded, once.

    Attributes:
        repository: The repository.
    """

    repository: Repository
    _headers: dict[str, tuple[Stored, ...]] = field(default_factory=dict, init=False, compare=False)

    @property
    def variant(self) -> str | None:
        return self.repository.hub.variant

    @property
    def files(self) -> list[RepoFile]:
        return list(self.repository.files)

    def json(self, name: str) -> dict[str, Any]:
        return self.repository.read(name)

    def stored(self, file: str) -> tuple[Stored, ...]:
        if file not in self._headers:
            self._headers[file] = self._download(file)
        return self._headers[file]

    def _download(self, file: str) -> tuple[Stored, ...]:
        repository = self.repository
        header = read_remote_header(repository.name, file, repository.commit, repository.hub)
        return tuple(
            Stored(repository.root / file, name, shape, kind, index)
            for index, (name, (kind, shape)) in enumerate(header.items())
        )

    def checkpoint(self) -> Checkpoint:
        names = [file.name for file in self.files]
        root, cpu = self.repository.root, torch.device("cpu")
        return _RemoteCheckpoint(root, self.variant, torch.float32, cpu, names=names, stored=self.stored)


@dataclass(frozen=True)
class _RemoteCheckpoint(Checkpoint):
    """A checkpoint whose weight files are not on disk.

    Attributes:
        names: Names of all files of the repository.
        stored: From the name of a weight file to the tensors in its header.
    """

    names: Sequence[str] = ()
    stored: Callable[[str], tuple[Stored, ...]] = lambda file: ()

    def headers(self, component: str, stem: str = "diffusion_pytorch_model") -> Sequence[Stored]:
        inside = needed_component(self.names, component_prefix(self.names, component), self.variant)
        files = [file for file in inside if file.endswith(".safetensors")]
        if not files:
            raise FileNotFoundError(f"{self.root / component} holds no {stem}.safetensors")
        return tuple(tensor for file in files for tensor in self.stored(file))
