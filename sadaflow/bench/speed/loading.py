"""Loading weights against reading their file: from the page cache, and from the disk where the system can forget."""

import gc
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import torch

from ...checkpoint import Checkpoint
from ...jsonfile import read_object
from ...weights import find_weights
from .random_checkpoint import empty_backbone
from .sides import OURS, THEIRS, diffusers_module

READ = "reading the file"
_CHUNK: Final = 16 * 2**20
_STEM: Final = "diffusion_pytorch_model"


def backbone_files(folder: Path) -> tuple[str, list[Path]]:
    """Component and weights of a checkpoint's backbone."""
    component = "transformer" if (folder / "transformer").is_dir() else "unet"
    return component, find_weights(folder / component, _STEM)


def settings(
    folder: Path, dtype: torch.dtype, device: torch.device, *, alone: bool, cold: bool
) -> dict[str, Callable[[], Mapping[str, float]]]:
    """For `interleaved`: reading the file, our loading, and Diffusers' unless `alone`. If `cold`, the system is asked
    to forget the file before each."""
    component, files = backbone_files(folder)
    config = read_object(folder / component / "config.json")
    checkpoint = Checkpoint(folder, None, dtype, device)

    def ours() -> object:
        return checkpoint.load(component, lambda: empty_backbone(component, config))

    def theirs() -> object:
        cls: Any = getattr(diffusers_module(), config.get("_class_name") or _CLASSES[component])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return cls.from_pretrained(folder / component, torch_dtype=dtype, local_files_only=True).to(device)

    def timed(act: Callable[[], object]) -> Callable[[], Mapping[str, float]]:
        def measure() -> Mapping[str, float]:
            for file in files:
                if cold:
                    forget(file)
            began = perf_counter()
            kept = act()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = perf_counter() - began
            del kept
            gc.collect()  # a model in a cycle of references keeps its file mapped, and that in the page cache
            return {"seconds": seconds}

        return measure

    acts: dict[str, Callable[[], object]] = {READ: lambda: list(map(read, files)), OURS: ours}
    if not alone:
        acts[THEIRS] = theirs
    return {name: timed(act) for name, act in acts.items()}


_CLASSES: Final = {"unet": "UNet2DConditionModel", "transformer": "FluxTransformer2DModel"}


def can_forget() -> bool:
    """Whether this system can be asked to drop a file from its page cache."""
    return hasattr(os, "posix_fadvise")


def forget(file: Path) -> None:
    """Ask the system to drop `file` from its page cache; what it has not written yet is written first."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(file: Path) -> bytearray:
    """The whole file in memory of its own: the least that loading must do unless it leaves the weights in the file."""
    content = bytearray(file.stat().st_size)
    with memoryview(content) as view, file.open("rb", buffering=0) as opened:
        done = 0
        while count := opened.readinto(view[done : done + _CHUNK]):
            done += count
    return content
