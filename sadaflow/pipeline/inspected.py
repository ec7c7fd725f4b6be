"""What an inspection found, and how it is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sadaflow.solvers import read_schedule

from ..files.printable import cell
from ..loading.hub.cache import RepoFile
from ..loading.sampling_defaults import Recommended


@dataclass(frozen=True)
class Component:
    """A folder of a checkpoint: its class, and of its weights the parameters by number format ("F16") and the bytes."""

    name: str
    kind: str
    parameters: Mapping[str, int]
    bytes: int

    @property
    def count(self) -> int:
        return sum(self.parameters.values())


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint holds, and what loading it would say.

    Attributes:
        place: The folder or Hub id.
        kind: Class of the pipeline or component.
        supported: Whether checkpoints of this class can be loaded at all.
        components: The parts of the checkpoint.
        scheduler: Class of the scheduler config; this and the next five are None if there is none that can be read.
        schedule: The noise schedule in words.
        prediction: What the network predicts.
        solver: Name of the recommended solver: by the checkpoint, else by us. So are the next two.
        steps: Recommended number of steps.
        guidance: Recommended guidance.
        downloads: Files that loading an id would download; empty for a folder.
        listed: Bytes of all files of the repository.
        refused: The error that loading would raise, or None if the checkpoint loads.
        notes: What loading would warn of: ignored fields and the like.
        use: How it is loaded, where that is not `Pipeline.from_pretrained`.
    """

    place: str
    kind: str
    supported: bool
    components: tuple[Component, ...]
    scheduler: str | None
    schedule: str | None
    prediction: str | None
    solver: str | None
    steps: int | None
    guidance: float | None
    downloads: tuple[RepoFile, ...] = ()
    listed: int = 0
    refused: str | None = None
    notes: tuple[str, ...] = ()
    use: str = ""


def sampling_of(
    config: Mapping[str, Any], recommended: Recommended, guidance: float | None, *, guided: bool
) -> dict[str, Any]:
    """Schedule, prediction, and what is recommended: by the checkpoint itself, or else by us.

    25 steps of DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095) for diffusion; for Flux.1 what its authors do with
    Euler: 4 steps where the network was distilled to need no guidance (schnell), else 50.

    Args:
        config: The scheduler config; empty if there is none.
        recommended: What the checkpoint recommends.
        guidance: Guidance that the architecture was published with.
        guided: Whether a transformer embeds guidance.

    Returns:
        The fields of `Inspection` from `scheduler` to `guidance`, by name.
    """
    empty = dict.fromkeys(("scheduler", "schedule", "prediction", "solver", "steps", "guidance"))
    try:
        found_schedule, prediction = read_schedule(config)
    except ValueError:  # what loading says of it stands in `refused`
        return empty
    schedule = type(found_schedule).__name__
    if "beta_schedule" in config:
        schedule += f", {config['beta_schedule']} betas {config.get('beta_start')} to {config.get('beta_end')}"
    recommended = recommended.or_distilled(config)
    solver, steps = "dpmpp2m", 25
    if prediction == "flow_prediction":
        solver, steps = "euler", 50 if guided else 4
    if recommended.guidance is not None:
        guidance = recommended.guidance
    found = (str(prediction), recommended.solver or solver, recommended.steps or steps, guidance)
    return dict(zip(empty, (str(config.get("_class_name")), schedule, *found), strict=True))


def describe(found: Inspection) -> str:
    """`found` as a text table."""
    rows: list[tuple[str, ...]] = [("component", "class", "parameters", "dtype", "weights")]
    for part in found.components:
        dtypes = "+".join(sorted(part.parameters)) or "-"
        rows.append((part.name, part.kind, _short(part.count, 1000) if part.count else "-", dtypes, _bytes(part.bytes)))
    total = sum(part.count for part in found.components)
    rows.append(("all", "", _short(total, 1000), "", _bytes(sum(part.bytes for part in found.components))))
    rows = [tuple(map(cell, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    head = f"{found.place}: {found.kind}" + ("" if found.supported else " (not supported)")
    lines = [head, *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)]
    if total:
        half, most = _bytes(2 * total), _bytes(2 * max(part.count for part in found.components))
        lines.append(f"memory       weights in float16 or bfloat16 {half}, with --offload model {most} at a time")
    if found.scheduler is not None:
        lines.append(f"scheduler    {found.scheduler} ({found.schedule}); the network predicts {found.prediction}")
        guidance = "" if found.guidance is None else f" --guidance {found.guidance:g}"
        lines.append(f"recommended  --solver {found.solver} --steps {found.steps}{guidance}")
    loads = f"yes, by {found.use}" if found.use else "yes"
    lines.append("loads        " + (loads if found.refused is None else f"no: {found.refused}"))
    lines += [f"note         {note}" for note in found.notes]
    if found.downloads:
        wanted = sum(file.size or 0 for file in found.downloads)
        lines.append(
            f"download     {len(found.downloads)} files, {_bytes(wanted)} of the repository's {_bytes(found.listed)}:"
        )
        lines += [f"  {_bytes(file.size or 0):>9}  {file.name}" for file in found.downloads]
    return "\n".join(map(cell, lines))


def _short(number: float, base: int) -> str:
    for unit in ("", "k", "M", "G"):
        if number < base or unit == "G":
            break
        number /= base
    return f"{number:.0f}{unit}" if unit == "" else f"{number:.1f} {unit}"


def _bytes(number: int) -> str:
    return f"{_short(number, 1000)}B" if number >= 1000 else (f"{number} B" if number else "-")
