"""Describes the machine: card, driver, versions, commit, and rates of the simplest operations."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch

from .cards import card_for
from .clock import median_milliseconds
from .records import Record, Setup, goal, row

_PACKAGES = ("torch", "triton", "transformers", "einops", "safetensors", "diffusers", "torchao", "numpy", "scipy")


def header(root: Path, small: bool, commit: str | None) -> Record:
    """Returns versions, time and commit. `commit` is None to ask git.

    The GPU is not used, because the processes of the parts are forked from this process.
    """
    smi = _said("nvidia-smi", "--query-gpu=name,driver_version,memory.total,pcie.link.gen.max", "--format=csv,noheader")
    versions = {name: found for name in _PACKAGES if (found := _version(name)) is not None}
    return {
        "header": {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "gpu": smi or "none",
            "host": f"{platform.platform()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "versions": versions,
            "cuda": torch.version.cuda or "none",
            "commit": commit or _commit(root),
            "small": small,
        }
    }


def run(setup: Setup) -> Iterator[Record]:
    """Measures the rate of a large bfloat16 matrix product and of a memory copy, beside the published limits."""
    side, count = (512, 2**20) if setup.small else (8192, 2**30)
    dtype = torch.bfloat16 if setup.cuda else torch.float32
    left, right = (torch.randn(side, side, device=setup.device, dtype=dtype) for _ in range(2))
    flops = 2e3 * side**3 / median_milliseconds(lambda: left @ right, setup.device, 10)
    source = torch.zeros(count, device=setup.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    moved = 2e3 * count / median_milliseconds(lambda: target.copy_(source), setup.device, 10)
    name = torch.cuda.get_device_name(setup.device) if setup.cuda else platform.processor() or platform.machine()
    card = card_for(name) if setup.cuda else None
    yield row(
        "the device",
        device=name,
        **{
            f"matrix product of {side}, TFLOP/s": flops / 1e12,
            "published": None if card is None else card.flops / 1e12,
            "copy, GB/s read and written": moved / 1e9,
            "published memory, GB/s": None if card is None else card.bytes / 1e9,
        },
    )
    if card is not None:
        yield goal(
            "share of the published bf16 peak that one large product reaches", flops / card.flops, 0.6, at_least=True
        )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(root: Path) -> str:
    """Returns the commit of the checkout and whether it was edited; without git, a digest of the code."""
    commit = _said("git", "-C", str(root), "rev-parse", "--short=12", "HEAD")
    if commit is None:
        from ..run.environment import session

        return f"no git; code {session(torch.device('cpu'))['source']}"
    edited = _said("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return f"{commit}, edited" if edited else commit


def _said(*command: str) -> str | None:
    """Returns the output of a command on one line; None if the command is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return "; ".join(done.stdout.split("\n")).strip("; ") if done.returncode == 0 else None
