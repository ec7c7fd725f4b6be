"""PNG files that carry the recipe of their run: written whole or not at all, never over another file unasked."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Recipe:
    """What repeats one image. Holds no clock time, so that equal runs give equal bytes."""

    prompt: str
    model: str
    steps: int
    seed: int
    width: int
    height: int
    negative_prompt: str | None = None
    solver: str | None = None  # None: what the checkpoint's scheduler config names
    grid: str | None = None  # None: likewise
    guidance: float | None = None  # None: what the checkpoint recommends
    accelerator: str | None = None  # None: every evaluation is made
    nfe: float | None = None  # network evaluations made; a conditional-only one counts 0.5
    modes: Sequence[str] = ()  # what was done at each step
    versions: Mapping[str, str] = field(default_factory=dict)

    def parameters(self) -> str:
        """The `parameters` text that image viewers and web UIs in the tradition of A1111 show and parse."""
        fields = {
            "Steps": self.steps,
            "Sampler": self.solver,
            "Schedule type": self.grid,
            "CFG scale": None if self.guidance is None else f"{self.guidance:g}",
            "Seed": self.seed,
            "Size": f"{self.width}x{self.height}",
            "Model": self.model,
            "Accelerator": self.accelerator,
            "NFE": None if self.nfe is None else f"{self.nfe:g}",
            **{f"{name} version": version for name, version in self.versions.items()},
        }
        lines = [self.prompt]
        if self.negative_prompt:
            lines.append(f"Negative prompt: {self.negative_prompt}")
        lines.append(", ".join(f"{key}: {_quoted(str(value))}" for key, value in fields.items() if value is not None))
        return "\n".join(lines)

    def chunks(self) -> dict[str, str]:
        """The two text chunks of the file: `parameters` for viewers, `sadaflow` (JSON) for repeating the run."""
        return {"parameters": self.parameters(), "sadaflow": json.dumps(asdict(self), ensure_ascii=False)}


def _quoted(value: str) -> str:
    """A value that would break the comma-separated line is written as a JSON string, as A1111's parser expects."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',:"\n') else value


def _kept(path: Path) -> FileExistsError:
    return FileExistsError(
        f"output file '{path}' exists and is kept; name another, or overwrite it (--overwrite, overwrite=True)"
    )


def check_target(path: Path, overwrite: bool = False) -> None:
    """Refuse a place that could not be written to later, before any work is done.

    Raises ValueError for another ending than .png, FileExistsError for an existing file, NotADirectoryError.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"output file '{path}' must end in .png")
    if path.is_dir():
        raise FileExistsError(f"output file '{path}' is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise _kept(path)
    above = path.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise NotADirectoryError(f"output file '{path}' cannot be made: '{above}' is a file, not a folder")


def write_png(path: str | Path, image: "Image", text: Mapping[str, str] | None = None, overwrite: bool = False) -> None:
    """Write `image` with text chunks (tEXt, or iTXt where a text is not Latin-1); missing folders are made.

    The file appears under its name only when complete. Raises as `check_target`.
    """
    from PIL.PngImagePlugin import PngInfo

    path = Path(path)
    check_target(path, overwrite)
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            image.save(file, format="PNG", pnginfo=info)
        _publish(part, path, overwrite)
    finally:
        part.unlink(missing_ok=True)


def _publish(part: Path, path: Path, overwrite: bool) -> None:
    """Give the finished file its name, in one step; a link cannot replace a file that came into being meanwhile."""
    if overwrite:
        part.replace(path)
        return
    try:
        os.link(part, path)
    except FileExistsError:
        raise _kept(path) from None
    except OSError:  # a file system without hard links: look once more, then rename
        check_target(path, overwrite)
        part.replace(path)


def read_text(path: str | Path) -> dict[str, str]:
    """The text chunks of a PNG file."""
    from PIL import Image

    with Image.open(path) as image:
        image.load()  # chunks may also follow the pixels
        chunks: dict[Any, Any] = getattr(image, "text", {})
    return {str(key): str(value) for key, value in chunks.items()}
