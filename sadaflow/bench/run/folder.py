"""The folder of a bench: header, measurements as JSON lines, plain references. A bench can be killed at any moment.

    header.json         suite, models and environment; every start of the bench adds a session
    samples.jsonl       one line per sample and setting
    sets.jsonl          one line per setting and metric of all its samples together, such as FID
    timing.jsonl        one line per round of timing
    references/         the plain runs, a safetensors file per case and sample
    features/           features that such metrics compare, a safetensors file per case, setting and batch
    worst/              the worst picture of every case and setting, small

Lines are appended in whole batches; an incomplete last line is removed when the folder is opened again. Other files
appear under their names only when complete.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ...files.atomic import write_atomically
from ...files.folder_lock import occupied
from ..suite.model import Case, Sample, Suite
from ..suite.subjects import Made

Record = dict[str, Any]


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
        self.samples = Lines(self.part / "samples.jsonl")
        self.sets = Lines(path / "sets.jsonl")
        self.timing = Lines(path / "timing.jsonl")

    @classmethod
    def open(
        cls, path: Path, suite: Suite, identity: Mapping[str, str], session: Mapping[str, Any], resume: bool
    ) -> Self:
        """Opens a folder for a start of a bench, and creates it if it does not exist.

        Args:
            path: The folder.
            suite: The suite that is measured.
            identity: Versions and the like that must not change between starts.
            session: What this start runs on.
            resume: Continue an existing folder.

        Raises:
            FileExistsError: If the folder exists and `resume` is False.
            ValueError: If it belongs to another suite or identity, or holds other files.
            BlockingIOError: If another command is writing to it.
        """
        file = path / "header.json"
        samples = [[sample.prompt, sample.seed] for sample in suite.samples] if suite.given else None
        if path.exists() and not resume:
            raise FileExistsError(f"{path} exists; continue it with --resume, or name another folder")
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"{path} is a file; name a folder for the results")
        if file.exists():
            header = _read_header(file)
            _check_same(path, header, {"name": suite.name, "suite": suite.text, "samples": samples, **identity})
        elif path.exists() and any(child.suffix != ".part" for child in path.iterdir()):
            raise ValueError(f"{path} holds files, but no header.json of a bench; name another folder")
        else:
            path.mkdir(parents=True, exist_ok=True)
            header = {"name": suite.name, "suite": suite.text, **identity, "models": {}, "sessions": []}
            header |= {} if samples is None else {"samples": samples}
        folder = cls(path, header)
        if session not in header["sessions"]:
            header["sessions"].append(dict(session))
        with occupied(path, alone=True):
            folder._write_header()
        return folder

    @classmethod
    def join(cls, path: Path, suite: Suite, identity: Mapping[str, str], part: str) -> Self:
        """Opens a folder that another process has created, with a part of it to write to."""
        header = _read_header(path / "header.json")
        _check_same(path, header, {"name": suite.name, "suite": suite.text, **identity})
        (path / "parts" / part).mkdir(parents=True, exist_ok=True)
        return cls(path, header, path / "parts" / part)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Opens an existing folder to report on."""
        return cls(path, _read_header(path / "header.json"))

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
        (self.path / "features").mkdir(exist_ok=True)
        kept = {"features": features.detach().cpu().contiguous()}
        write_atomically(self._features(metric, case, label, samples), save(kept))

    def features(self, metric: str, case: Case, label: str, batches: Iterable[Sequence[Sample]]) -> Tensor | None:
        """Reads the features (N, D) of all batches; None if some are missing."""
        files = [self._features(metric, case, label, samples) for samples in batches]
        if not all(file.exists() for file in files):
            return None
        return torch.cat([_read_tensors(file)["features"] for file in files])

    def _features(self, metric: str, case: Case, label: str, samples: Sequence[Sample]) -> Path:
        named = json.dumps([metric, *astuple(case), label, *map(astuple, samples)])
        return self.path / "features" / f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.safetensors"

    def keep_references(self, case: Case, samples: Sequence[Sample], made: Made) -> None:
        """Writes the plain run of a batch."""
        (self.path / "references").mkdir(exist_ok=True)
        for row, sample in enumerate(samples):
            tensors = {"latents": made.latents[row]}
            if made.images is not None:
                tensors["images"] = made.images[row].float()
            tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
            named = {"case": case.title, "prompt": sample.prompt, "seed": str(sample.seed)}
            write_atomically(self._reference(case, sample), save(tensors, metadata=named))

    def references(self, case: Case, samples: Sequence[Sample]) -> tuple[Tensor, Tensor | None] | None:
        """Reads latents (B, ...) and pictures of the plain run of a batch; None if some are missing."""
        files = [self._reference(case, sample) for sample in samples]
        if not all(file.exists() for file in files):
            return None
        found = [_read_tensors(file) for file in files]
        latents = torch.stack([tensors["latents"] for tensors in found])
        pictured = all("images" in tensors for tensors in found)
        return latents, torch.stack([tensors["images"] for tensors in found]) if pictured else None

    def _reference(self, case: Case, sample: Sample) -> Path:
        named = json.dumps([*astuple(case), *astuple(sample)])
        return self.path / "references" / f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.safetensors"

    def _write_header(self) -> None:
        text = json.dumps(self.header, indent=1, ensure_ascii=False)
        write_atomically(self.path / "header.json", text.encode("utf-8"))


class Lines:
    """An append-only file of JSON objects, one per line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Record]:
        """Reads all complete lines; an incomplete last line is ignored.

        Raises:
            ValueError: If a line is damaged. The message names it.
        """
        text = self.path.read_bytes() if self.path.exists() else b""
        records = []
        for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(), 1):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{self.path}, line {number} is damaged ({error}); delete it and resume") from error
        return records

    def mend(self) -> None:
        """Removes an incomplete last line."""
        if self.path.exists():
            with self.path.open("r+b") as file:
                file.truncate(file.read().rfind(b"\n") + 1)

    def append(self, records: Iterable[Record]) -> None:
        """Appends records and waits until they are on the disk."""
        text = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
        with self.path.open("ab") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())


def _read_header(file: Path) -> Record:
    try:
        header = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); name another folder") from error
    if not isinstance(header, dict) or not {"name", "suite", "models", "sessions"} <= header.keys():
        raise ValueError(f"{file} is not the header of a bench; name another folder")
    return header


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}); delete it and resume, it is computed again") from error


def _check_same(path: Path, header: Record, expected: Mapping[str, object]) -> None:
    for name, value in expected.items():
        if header.get(name) != value:
            values = "" if name in ("suite", "samples") else f" ({header.get(name)}, now {value})"
            what = "list of samples (--prompts)" if name == "samples" else name
            raise ValueError(f"{path} was begun with another {what}{values}: start again in another folder")
