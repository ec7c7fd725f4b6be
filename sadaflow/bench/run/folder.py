"""The folder of a bench: header, measurements as JSON lines, plain references. A bench can be killed at any moment.

    header.json         suite, models and environment; every start of the bench adds a session
    samples.jsonl       one line per sample and setting
    sets.jsonl          one line per setting and metric of all its samples together, such as FID
    timing.jsonl        one line per round of timing
    references/         the plain runs, a safetensors file per case and sample
    features/           features that such metrics compare, a safetensors file per case, setting and batch
    worst/              the worst picture of every case and setting, small

Lines are appended in whole batches and hold a digest; other files appear under their names only when complete. When the
folder is opened again everything in it is checked, and what is damaged is removed, said, and measured again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ...files.atomic import write_atomically
from ...files.folder_lock import occupied
from ..suite.model import Case, Sample, Suite
from ..suite.subject import Made
from .header import check_same, new_header, read_header
from .lines import ROUND, SAMPLE, SET, Lines, Record, Say
from .tensor_file import read_tensors, write_tensors

PARTS, GATHERING, WORST = "parts", "gathering", "worst"
"""Subfolders: what each of several processes has measured, all of that while it is merged, the worst pictures."""


class Folder:
    """The folder of a bench, opened by one process.

    Attributes:
        path: The folder.
        header: Contents of `header.json`.
        part: Subfolder to which this process writes its samples; `path` with a single process.
        samples: Lines of samples.
        sets: Lines of metrics of all samples of a setting.
        timing: Lines of rounds.
    """

    def __init__(self, path: Path, header: Record, part: Path | None = None) -> None:
        self.path = path
        self.header = header
        self.part = path if part is None else part
        self.samples = Lines(self.part / "samples.jsonl", SAMPLE)
        self.sets = Lines(path / "sets.jsonl", SET)
        self.timing = Lines(path / "timing.jsonl", ROUND)

    @classmethod
    @contextmanager
    def begin(
        cls, path: Path, suite: Suite, identity: Mapping[str, str], session: Mapping[str, Any], resume: bool
    ) -> Iterator[tuple[Self, Callable[[], None]]]:
        """Opens a folder for a start of a bench, creates it if it does not exist, and holds its lock within the block.

        Args:
            path: The folder.
            suite: The suite that is measured.
            identity: Versions and the like that must not change between starts.
            session: What this start runs on.
            resume: Continue an existing folder.

        Yields:
            The folder, and a function that lets further processes `join`.

        Raises:
            FileExistsError: If the folder exists and `resume` is False.
            ValueError: If it belongs to another suite or identity, or holds other files.
            BlockingIOError: If another command is writing to it.
        """
        if path.exists() and not resume:
            raise FileExistsError(f"{path} exists; continue it with --resume, or name another folder")
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"{path} is a file; name a folder for the results")
        path.mkdir(parents=True, exist_ok=True)
        with occupied(path, alone=True) as share:
            folder = cls(path, _header(path, suite, identity))
            if session not in folder.header["sessions"]:
                folder.header["sessions"].append(dict(session))
            folder._write_header()
            yield folder, share

    @classmethod
    @contextmanager
    def join(cls, path: Path, suite: Suite, identity: Mapping[str, str], part: str) -> Iterator[Self]:
        """Opens a folder that a process of this command has begun, with a part of it to write to, and holds its lock.

        Raises:
            ValueError: If it belongs to another suite or identity.
            BlockingIOError: If another command is preparing it.
        """
        with occupied(path):
            header = read_header(path / "header.json")
            check_same(path, header, suite, identity, samples=False)
            (path / PARTS / part).mkdir(parents=True, exist_ok=True)
            yield cls(path, header, path / PARTS / part)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Opens an existing folder to report on."""
        return cls(path, read_header(path / "header.json"))

    def know(self, model: str, fingerprint: str) -> None:
        """Records the weights of a model; raises ValueError if they are not those that the folder was begun with."""
        self._know("models", model, fingerprint, f"the weights of {model} are not those {self.path} was begun with")

    def know_metric(self, name: str, description: Record) -> None:
        """Records the description of a metric; raises ValueError if the folder was begun with another one."""
        known = self.header.get("metrics", {}).get(name)
        changed = f"metric {name!r} is {description}, but {self.path} was begun with {known}"
        self._know("metrics", name, description, changed)

    def know_config(self, kind: str, name: str, config: Record) -> None:
        """Records the settings of a solver or an accelerator; raises ValueError if the folder was begun with others.

        Args:
            kind: "solvers" or "accelerators".
            name: The case or the setting.
            config: What `to_config` makes of it.
        """
        changed = f"the settings of {name!r} are not those {self.path} was begun with: {kind!r} in its header.json"
        self._know(kind, name, json.loads(json.dumps(config)), changed)

    def _know(self, kind: str, name: str, value: object, changed: str) -> None:
        """Records an entry of the header; raises ValueError with the message `changed` if there is another one."""
        if self.header.setdefault(kind, {}).setdefault(name, value) != value:
            raise ValueError(f"{changed}; name another folder")
        self._write_header()

    def keep_features(self, metric: str, case: Case, label: str, samples: Sequence[Sample], features: Tensor) -> None:
        """Writes the features (B, D) of a batch for a metric of all samples."""
        path, named = self._features(metric, case, label, samples)
        path.parent.mkdir(exist_ok=True)
        write_tensors(path, {"features": features}, named)

    def has_features(self, metric: str, case: Case, label: str, samples: Sequence[Sample]) -> bool:
        """Whether the features of a batch are kept."""
        return self._features(metric, case, label, samples)[0].exists()

    def features(self, metric: str, case: Case, label: str, batches: Iterable[Sequence[Sample]]) -> Tensor | None:
        """Reads the features (N, D) of all batches; None if some are missing."""
        files = [self._features(metric, case, label, samples) for samples in batches]
        if not all(file.exists() for file, _ in files):
            return None
        return torch.cat([read_tensors(file, named)["features"] for file, named in files])

    def keep_references(self, case: Case, samples: Sequence[Sample], made: Made) -> None:
        """Writes the plain run of a batch."""
        for row, sample in enumerate(samples):
            tensors = {"latents": made.latents[row]}
            if made.images is not None:
                tensors["images"] = made.images[row].float()
            path, named = self._reference(case, sample)
            path.parent.mkdir(exist_ok=True)
            write_tensors(path, tensors, named)

    def has_references(self, case: Case, samples: Sequence[Sample]) -> bool:
        """Whether the plain run of a batch is kept."""
        return all(self._reference(case, sample)[0].exists() for sample in samples)

    def references(self, case: Case, samples: Sequence[Sample]) -> tuple[Tensor, Tensor | None] | None:
        """Reads latents (B, ...) and pictures of the plain run of a batch; None if some are missing."""
        if not self.has_references(case, samples):
            return None
        found = [read_tensors(*self._reference(case, sample)) for sample in samples]
        latents = torch.stack([tensors["latents"] for tensors in found])
        pictured = all("images" in tensors for tensors in found)
        return latents, torch.stack([tensors["images"] for tensors in found]) if pictured else None

    def check_tensors(self, suite: Suite, say: Say) -> None:
        """Reads all references and features of a suite; removes those that are damaged, which are made again."""
        kept = [self._reference(case, sample) for case in suite.cases for sample in suite.samples_of(case)]
        kept += [
            self._features(metric, case, setting.label, samples)
            for metric in suite.metrics
            for case in suite.cases
            for setting in suite.settings(case)
            for samples in suite.batches(case)
        ]
        for path, named in kept:
            try:
                if path.exists() or path.is_symlink():
                    read_tensors(path, named)
            except ValueError as error:
                say(f"{error}; it is computed again")
                path.unlink()

    def _features(self, metric: str, case: Case, label: str, samples: Sequence[Sample]) -> tuple[Path, dict[str, str]]:
        name = json.dumps([metric, *astuple(case), label, *map(astuple, samples)])
        return self._tensors("features", name), {"metric": metric, "case": case.title, "setting": label}

    def _reference(self, case: Case, sample: Sample) -> tuple[Path, dict[str, str]]:
        named = {"case": case.title, "prompt": sample.prompt, "seed": str(sample.seed)}
        return self._tensors("references", json.dumps([*astuple(case), *astuple(sample)])), named

    def _tensors(self, folder: str, name: str) -> Path:
        return self.path / folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.safetensors"

    def _write_header(self) -> None:
        text = json.dumps(self.header, indent=1, ensure_ascii=False)
        write_atomically(self.path / "header.json", text.encode("utf-8"))


def _header(path: Path, suite: Suite, identity: Mapping[str, str]) -> Record:
    """The header of a folder, or a new one if it is empty; checks that it fits, and that no subfolder is a link."""
    file = path / "header.json"
    for name in ("references", "features", WORST, PARTS, GATHERING):
        if (path / name).is_symlink():
            raise ValueError(f"{path / name} is a link, which may lead out of the folder; remove it")
    if file.exists():
        header = read_header(file)
        check_same(path, header, suite, identity)
        return header
    if any(child.suffix != ".part" for child in path.iterdir()):
        raise ValueError(f"{path} holds files, but no header.json of a bench; name another folder")
    return new_header(suite, identity)
