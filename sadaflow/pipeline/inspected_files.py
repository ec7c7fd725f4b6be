"""The files of a checkpoint that is inspected: a local folder, or a repository whose weights are not downloaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import huggingface_hub
import torch

from ..loading.checkpoint import Checkpoint
from ..loading.embedded import checkpoint_files
from ..loading.hub.download import RepoFile
from ..loading.hub.layout import needed_component
from ..loading.json_file import read_object
from ..loading.safetensors_file import Stored, read_headers


class Files(Protocol):
    """What an inspection reads."""

    @property
    def variant(self) -> str | None:
        """The marked files to prefer ("fp16")."""
        ...

    @property
    def files(self) -> list[RepoFile]:
        """All files, by their path inside the checkpoint."""
        ...

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        ...

    def stored(self, file: str) -> tuple[Stored, ...]:
        """The header of a weight file."""
        ...

    def checkpoint(self) -> Checkpoint:
        """The checkpoint as loading sees it."""
        ...


@dataclass(frozen=True)
class LocalFiles:
    """A folder."""

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
    """A repository: `root` has its small files, and of the weights only the first bytes are downloaded, once.

    `place` is repo_id, revision, cache_dir, token and endpoint, as huggingface_hub takes them.
    """

    root: Path
    variant: str | None
    place: Mapping[str, Any]
    files: list[RepoFile]
    _headers: dict[str, tuple[Stored, ...]] = field(default_factory=dict, init=False, compare=False)

    def json(self, name: str) -> dict[str, Any]:
        if not (self.root / name).is_file():  # of a pipeline that is not supported
            huggingface_hub.hf_hub_download(filename=name, **self.place)
        return read_object(self.root / name)

    def stored(self, file: str) -> tuple[Stored, ...]:
        if file not in self._headers:
            self._headers[file] = self._download(file)
        return self._headers[file]

    def _download(self, file: str) -> tuple[Stored, ...]:
        from huggingface_hub import errors  # with an HTTP client, slow to import

        api = huggingface_hub.HfApi(endpoint=self.place["endpoint"], token=self.place["token"])
        where = {"repo_id": self.place["repo_id"], "revision": self.place["revision"]}
        try:
            tensors = api.parse_safetensors_file_metadata(filename=file, **where).tensors
            return tuple(
                Stored(self.root / file, name, tuple(tensor.shape), str(tensor.dtype), index)
                for index, (name, tensor) in enumerate(tensors.items())
            )
        except (LookupError, TypeError, AttributeError, RecursionError, errors.SafetensorsParsingError) as error:
            raise ValueError(f"{file} of {where['repo_id']!r} begins with no safetensors header: {error}") from error

    def checkpoint(self) -> Checkpoint:
        names = [file.name for file in self.files]
        return _RemoteCheckpoint(
            self.root, self.variant, torch.float32, torch.device("cpu"), names=names, stored=self.stored
        )


@dataclass(frozen=True)
class _RemoteCheckpoint(Checkpoint):
    """A checkpoint whose weight files are elsewhere; their headers come from `stored`."""

    names: Sequence[str] = ()
    stored: Callable[[str], tuple[Stored, ...]] = lambda file: ()

    def headers(self, component: str, stem: str = "diffusion_pytorch_model") -> Sequence[Stored]:
        inside = needed_component(self.names, f"{component}/" if component else "", self.variant)
        files = [file for file in inside if file.endswith(".safetensors")]
        if not files:
            raise FileNotFoundError(f"{self.root / component} holds no {stem}.safetensors")
        return tuple(one for file in files for one in self.stored(file))
