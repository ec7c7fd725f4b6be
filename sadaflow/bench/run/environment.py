"""What measurements depend on besides the suite: versions, code, hardware."""

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
    """Returns what must be the same for all measurements in a folder."""
    return {
        "sadaflow": sadaflow.__version__,
        "torch": torch.__version__,
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
    }


def session(device: torch.device) -> dict[str, Any]:
    """Returns what one start of a bench runs on. The report lists differences between sessions."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "source": _source(),
    }


def _processor() -> str:
    """Returns the processor's product name on Linux, else what Python reports."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8", "replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _source() -> str:
    """Returns a digest of the package's modules, which distinguishes edited code of the same version."""
    digest = hashlib.sha256()
    for module in (sadaflow, sadaflow.models, sadaflow.solvers):
        root = Path(str(module.__file__)).parent
        for file in sorted(root.rglob("*.py")):
            digest.update(f"{module.__name__} {file.relative_to(root)}".encode() + file.read_bytes())
    return digest.hexdigest()[:12]
