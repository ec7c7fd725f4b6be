"""The calibrations of a checkpoint: found when it is loaded, chosen for a call, read and written."""

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from ..accelerators.auto.calibration import Calibration, near
from ..files.atomic import write_file
from ..guidance import CFG, KeepLength
from ..loading.digest import weights_digest
from ..loading.json_file import read_object
from ..loading.safetensors_file import Stored

NAME: Final = "sadaflow_calibrations.json"
"""Name of the file beside a checkpoint's model_index.json."""

_KEY: Final = "calibrations"


@dataclass(frozen=True)
class Calibrations:
    """What was measured of a checkpoint.

    Attributes:
        weights: Digest of the backbone's weights; empty if it is not known.
        folder: Folder of the checkpoint; None for a single file.
        held: The calibrations of these weights.
    """

    weights: str = ""
    folder: Path | None = None
    held: tuple[Calibration, ...] = ()

    @classmethod
    def find(cls, stored: Iterable[Stored], folder: Path | None) -> Self:
        """Looks for calibrations of the weights `stored`, in the user's cache and beside a checkpoint in `folder`."""
        weights = weights_digest(stored)
        return cls(weights, folder, tuple(_found(folder, weights)))

    def near(self, guidance: float | None, adapted: bool) -> list[Calibration]:
        """The calibrations for a scale of guidance, the nearest first; none if LoRAs have changed the weights.

        There is none for guidance by a rule (None), since a calibration is one of classifier-free guidance.
        """
        return [] if guidance is None else near(self.usable(adapted), guidance)

    def usable(self, adapted: bool) -> tuple[Calibration, ...]:
        """The calibrations for all scales of guidance; none if LoRAs have changed the weights."""
        return () if adapted else self.held

    def check(self, accelerator: object, adapted: bool, name: str) -> None:
        """Raises ValueError if an accelerator has a calibration of other weights than those of checkpoint `name`."""
        given = getattr(accelerator, "calibration", None)
        if given is not None and (given.weights != self.weights or adapted):
            own = "changed by a LoRA" if adapted else self.weights[:12]
            raise ValueError(
                f"the calibration is one of weights with the digest {given.weights[:12]}, those of {name} are {own}; "
                "make another with `sadaflow calibrate`"
            )

    def added(self, calibration: Calibration) -> Self:
        """These calibrations with another one, which comes first."""
        return replace(self, held=(calibration, *(one for one in self.held if _key(one) != _key(calibration))))


def guidance_of(conditional: Mapping[str, object], negative: object, between: object, embedded: object) -> float | None:
    """The scale that a calibration is valid for; None if the guidance is more than a number, which has none.

    Args:
        conditional: What the conditional branch is given.
        negative: What the negative branch is given; None without one.
        between: Guidance between the branches. A number whose prediction keeps its length counts as the number: the
            checkpoint decides on that, not the call.
        embedded: The number that the network embeds, if it does.
    """
    if isinstance(between, KeepLength) and isinstance(between.inner, CFG):
        between = between.inner.scale  # the checkpoint itself corrects lengths, in the calibration as well
    guidance = between if negative is not None else embedded if "guidance" in conditional else 1.0
    if isinstance(guidance, KeepLength) and type(guidance.inner) is CFG:
        guidance = guidance.inner.scale
    return float(guidance) if isinstance(guidance, float | int) else None


NONE: Final = Calibrations()
"""Nothing was measured."""


def cache_file(weights: str) -> Path:
    """The file in the user's cache that holds calibrations of the weights with this digest.

    The cache is `SADAFLOW_CACHE`, or sadaflow in `XDG_CACHE_HOME`, or in ~/.cache.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    root = Path(os.environ.get("SADAFLOW_CACHE") or Path(home) / "sadaflow").expanduser()
    return root / "calibrations" / f"{weights}.json"


def _found(folder: Path | None, weights: str) -> Iterator[Calibration]:
    """Yields the calibrations of some weights; files that cannot be read are left out with a warning."""
    for path in (cache_file(weights), *([] if folder is None else [folder / NAME])):
        if not path.is_file():
            continue
        try:
            held = read_calibrations(path)
        except (ValueError, OSError) as error:
            warnings.warn(f"calibrations are not used: {error}", stacklevel=4)
            continue
        if any(calibration.weights != weights for calibration in held):
            warnings.warn(f"{path} holds calibrations of other weights, which are not used", stacklevel=4)
        yield from (calibration for calibration in held if calibration.weights == weights)


def read_calibrations(path: Path) -> list[Calibration]:
    """Reads all calibrations of a file.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is malformed, or of another version.
    """
    entries = read_object(path).get(_KEY)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} is not a file of calibrations: it has no list {_KEY!r} of objects")
    return [Calibration.from_json(entry, f"{path}, {_KEY} {index}") for index, entry in enumerate(entries)]


def write_calibrations(path: Path, calibrations: Iterable[Calibration]) -> None:
    """Adds calibrations to a file, atomically. One of the same weights, solver, steps and guidance is replaced.

    Raises:
        ValueError: If the file exists and is not one of calibrations.
    """
    held = {_key(entry): entry for entry in (read_calibrations(path) if path.is_file() else [])}
    held |= {_key(entry): entry for entry in calibrations}
    content = {_KEY: [entry.to_json() for entry in held.values()]}
    write_file(path, (json.dumps(content, indent=1) + "\n").encode(), overwrite=True)


def _key(calibration: Calibration) -> tuple[Any, ...]:
    return calibration.weights, calibration.solver, calibration.log_snr, calibration.guidance
