"""What a measurement depends on beside its suite: versions, code, hardware."""

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import torch

import sadaflow
import sadaflow.models
import sadaflow.solvers


def identity(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """What must be the same for numbers to lie in one table."""
    return {
        "sadaflow": sadaflow.__version__,
        "torch": torch.__version__,
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
    }


def session(device: torch.device) -> dict[str, Any]:
    """What one start ran on; a difference between sessions is told below the tables."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "source": _source(),
    }


def _processor() -> str:
    """The processor's marketing name where Linux tells it, else what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8", "replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _source() -> str:
    """Digest of the package's modules: numbers of edited code are told apart even where the version is the same."""
    digest = hashlib.sha256()
    for module in (sadaflow, sadaflow.models, sadaflow.solvers):
        root = Path(str(module.__file__)).parent
        for file in sorted(root.rglob("*.py")):
            digest.update(f"{module.__name__} {file.relative_to(root)}".encode() + file.read_bytes())
    return digest.hexdigest()[:12]
