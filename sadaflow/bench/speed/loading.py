"""Measures loading of weights against reading their files, from the page cache and from the disk."""

import ctypes
import gc
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import torch

from ...loading.checkpoint import Checkpoint
from ...loading.json_file import read_object
from ...loading.weight_files import find_weights
from .random_checkpoint import empty_backbone
from .sides import OURS, THEIRS, diffusers_module

READ = "reading the file"
_STEM: Final = "diffusion_pytorch_model"
_CLASSES: Final = {"unet": "UNet2DConditionModel", "transformer": "FluxTransformer2DModel"}


def backbone_files(folder: Path) -> tuple[str, list[Path]]:
    """Returns component name and weight files of a checkpoint's backbone."""
    component = "transformer" if (folder / "transformer").is_dir() else "unet"
    return component, find_weights(folder / component, _STEM)


def settings(
    folder: Path, dtype: torch.dtype, device: torch.device, *, alone: bool, cold: bool
) -> dict[str, Callable[[], Mapping[str, float]]]:
    """Returns what `interleaved` runs: reading the files, loading with this library, and loading with Diffusers.

    Args:
        folder: The checkpoint.
        dtype: Type of the weights.
        device: Where they are loaded to.
        alone: Leave Diffusers out.
        cold: Drop the files from the system's page cache before each.
    """
    component, files = backbone_files(folder)
    config = read_object(folder / component / "config.json")
    checkpoint = Checkpoint(folder, None, dtype, device)

    def ours() -> object:
        network = checkpoint.network(component, lambda: empty_backbone(component, config))
        checkpoint.fill()
        return network

    def theirs() -> object:
        cls: Any = getattr(diffusers_module(), _CLASSES[component])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return cls.from_pretrained(folder / component, torch_dtype=dtype, local_files_only=True).to(device)

    def timed(act: Callable[[], object]) -> Callable[[], Mapping[str, float]]:
        def measure() -> Mapping[str, float]:
            release()
            for file in files:
                if cold:
                    forget(file)
            began = perf_counter()
            kept = act()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = perf_counter() - began
            del kept
            return {"seconds": seconds}

        return measure

    acts: dict[str, Callable[[], object]] = {READ: lambda: [file.read_bytes() for file in files], OURS: ours}
    if not alone:
        acts[THEIRS] = theirs
    return {name: timed(act) for name, act in acts.items()}


def can_forget() -> bool:
    """Returns whether this system can drop a file from its page cache."""
    return hasattr(os, "posix_fadvise")


def forget(file: Path) -> None:
    """Writes what is not yet written of `file`, and asks the system to drop it from its page cache."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def release() -> None:
    """Returns free memory to the system, so that each measurement allocates new pages, as the first of a process does.

    A model in a cycle of references keeps its file mapped and in the page cache; glibc keeps freed memory.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
