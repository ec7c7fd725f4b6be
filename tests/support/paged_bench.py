"""A finished bench on a tiny random checkpoint, whose report tests open."""

import json
from pathlib import Path
from typing import Any

from sadaflow.bench import parse_suite, run_bench

PROMPTS = ["a", '</script><img src="http://example.invalid/x"> & "b"']


def suite_text(checkpoint: Path) -> str:
    return f"""
model = {json.dumps(str(checkpoint))}
guidance = 3.0
batch = 2
prompts = {json.dumps(PROMPTS)}
seeds = [1, 10]
[[case]]
solvers = ["euler"]
steps = [8]
[[case]]
solvers = ["dpmpp2m"]
steps = [6]
[[method]]
accelerator = "uniform"
settings = [{{}}, {{ every = 3 }}]
[[method]]
name = "fewer <steps>"
accelerator = "fewer-steps"
settings = [{{ steps = 4 }}]
[timing]
settings = ["uniform"]
steps = [8]
rounds = 2
samples = 1
"""


def paged_bench(checkpoint: Path, out: Path) -> Path:
    """Runs the bench on a checkpoint, with times; returns `out`."""
    suite = parse_suite(suite_text(checkpoint), "paged")
    run_bench(suite, out)
    run_bench(suite, out, resume=True, timing=True)
    return out


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
