"""Seconds and memory of `sadaflow generate --prompts` over the number of prompts.

Run `python docs/scripts/measure_many.py`.

tiny-sd at 16x16 pixels and 2 steps in batches of 4, in one process with one thread: little sampling, so that
what else grows would show. The sizes take turns, each in a process of its own; a row has the medians of the rounds.
Processor seconds are what a busy machine leaves comparable; memory is the largest resident set.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sadaflow.training.data.captions import CARD_PROMPTS

# Runs the command line, then prints the seconds and the bytes that it took.
MEASURED = """
import json, resource, sys, time
from sadaflow.cli import main
import sadaflow.cli.generate
began = time.perf_counter()
status = main(sys.argv[1:])
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([status, time.perf_counter() - began, usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss]))
"""


def measure(prompts: int, steps: int, folder: Path) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of the processor, and MB."""
    file = folder / f"{prompts}.txt"
    file.write_text("".join(f"{CARD_PROMPTS[i % len(CARD_PROMPTS)]}\n" for i in range(prompts)), "utf-8")
    with tempfile.TemporaryDirectory(dir=folder) as out:
        arguments = ["generate", "--prompts", str(file), "--out", out, "--steps", str(steps), "--threads", "1"]
        small = ["--height", "16", "--width", "16", "--guidance", "1", "--accelerate", "none"]
        run = [sys.executable, "-c", MEASURED, *arguments, *small]
        done = subprocess.run(run, check=True, capture_output=True, text=True)
        lines = (Path(out) / "manifest.jsonl").read_text("utf-8").count("\n")
    status, seconds, busy, size = json.loads(done.stdout.splitlines()[-1])
    if status != 0 or lines != prompts:
        raise RuntimeError(f"{prompts} prompts ended with status {status} and {lines} lines: {done.stderr}")
    return seconds, busy, size / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--prompts", type=int, nargs="+", default=[250, 500, 1000, 2000])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    found: dict[int, list[tuple[float, float, float]]] = {prompts: [] for prompts in options.prompts}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for prompts in options.prompts:
                found[prompts].append(measure(prompts, options.steps, Path(folder)))
    print("| prompts | seconds | of the processor | a prompt | peak memory |\n|---|---|---|---|---|")
    for prompts, runs in found.items():
        seconds, busy, size = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"| {prompts} | {seconds:.1f} | {busy:.1f} | {1e3 * busy / prompts:.1f} ms | {size:.0f} MB |")


if __name__ == "__main__":
    main()
