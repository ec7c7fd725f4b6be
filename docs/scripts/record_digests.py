"""Records SHA-256 digests of what the embedded checkpoints draw, or compares them with a record.

    python docs/scripts/record_digests.py digests.json            # record
    python docs/scripts/record_digests.py digests.json --check    # compare, exit code 1 if anything differs

One prompt and one seed are sampled on one thread with every registered solver, and with every registered accelerator on
the checkpoint's own solver and on DPM-Solver++ 2M. Each run adds a digest of its latents and of its picture. A pair
that does not fit, such as DeepCache and a transformer, is recorded as refused. Floating-point results differ between
processors and torch versions, so the record names both and is only compared where they are the same.
"""

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sadaflow import Pipeline
from sadaflow.accelerators import ACCELERATORS
from sadaflow.solvers import SOLVERS

# Name of the record -> (checkpoint, ControlNet).
SUBJECTS = {
    "tiny-sd": ("tiny-sd", None),
    "tiny-flux": ("tiny-flux", None),
    "tiny-controlnet": ("tiny-sd", "tiny-controlnet"),
}
PROMPT, SEED, PIXELS = "red apple", 7, 64
SOLVER_STEPS, ACCELERATOR_STEPS = 6, 20  # SADA needs at least 13


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("file", type=Path, help="JSON file to write, or to compare with")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.check:
        options.file.parent.mkdir(parents=True, exist_ok=True)
        found = dict(digests())
        options.file.write_text(json.dumps({"machine": machine(), "digests": found}, indent=1) + "\n", "utf-8")
        print(f"{len(found)} runs recorded in {options.file}")
        return 0
    record = json.loads(options.file.read_text("utf-8"))
    if record["machine"] != machine():
        print(f"error: recorded on {record['machine']}, this is {machine()}: digests do not compare", file=sys.stderr)
        return 2
    differences = compare(record["digests"], dict(digests()))
    print("\n".join(differences) or f"all {len(record['digests'])} runs are equal to the bit")
    return 1 if differences else 0


def machine() -> dict[str, str]:
    """Processor, torch version and instruction set: what the last bits of a result depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return {"processor": processor, "torch": torch.__version__, "instructions": torch.backends.cpu.get_cpu_capability()}


def digests() -> Iterator[tuple[str, dict[str, str]]]:
    """Yields (name of the run, its digests) for every checkpoint, solver and accelerator."""
    for subject, (checkpoint, controlnet) in SUBJECTS.items():
        pipe = Pipeline.from_pretrained(checkpoint, controlnet=controlnet)
        extra = {"control": ring(PIXELS)} if controlnet else {}
        for solver in SOLVERS:
            yield f"{subject}/solver/{solver}", digest(pipe, steps=SOLVER_STEPS, solver=solver, **extra)
        for accelerator, solver in product(ACCELERATORS, (None, "dpmpp2m")):
            arguments = {"steps": ACCELERATOR_STEPS, "accelerator": accelerator, "solver": solver, **extra}
            yield f"{subject}/accelerator/{accelerator}/{solver or 'own'}", digest(pipe, **arguments)


def digest(pipe: Pipeline, **arguments: Any) -> dict[str, str]:
    """The digests of one run, or {"refused": "ValueError"} if the arguments do not fit the checkpoint."""
    try:
        out = pipe(PROMPT, seed=SEED, height=PIXELS, width=PIXELS, output="tensor", progress=False, **arguments)
    except ValueError:  # its text may change, and says nothing about a picture
        return {"refused": "ValueError"}
    return {"latents": sha256(out.latents), "picture": sha256(out.images)}


def sha256(tensor: Tensor) -> str:
    """SHA-256 of a tensor's shape, dtype and bytes."""
    header = f"{tuple(tensor.shape)} {tensor.dtype}".encode()
    return hashlib.sha256(header + tensor.detach().contiguous().numpy().tobytes()).hexdigest()


def ring(size: int) -> Tensor:
    """A white ring on black, (3, size, size): the control image."""
    rows = torch.arange(size) - (size - 1) / 2
    radius = (rows[:, None] ** 2 + rows**2).sqrt() / size
    return ((radius > 0.3) & (radius < 0.34)).float().expand(3, size, size)


def compare(recorded: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """One line for each run that differs, is missing, or is new."""
    lines = [f"missing: {name}" for name in recorded if name not in found]
    lines += [f"new: {name}" for name in found if name not in recorded]
    for name in recorded:
        if name in found and recorded[name] != found[name]:
            keys = sorted(recorded[name].keys() | found[name].keys())
            wrong = [key for key in keys if recorded[name].get(key) != found[name].get(key)]
            lines.append(f"differs: {name} ({', '.join(wrong)})")
    return lines


if __name__ == "__main__":
    sys.exit(main())
