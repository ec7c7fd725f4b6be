"""The command `python -m sadaflow.bench.gpu`: whether everything works on a GPU, how fast it is, and what to fix."""

import argparse
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from . import theirs
from .book import Book
from .machine import header
from .parts import PARTS
from .records import Setup, omitted
from .runner import preload, run_parts, start_method, written_to

ROOT = Path(__file__).resolve().parents[3]
_MINUTES, _SMALL_MINUTES = 8.0, 0.9


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark. The exit code is 0 if it ran to its end, whatever the results, and 130 if interrupted."""
    began = time.monotonic()
    parser = _parser()
    asked = parser.parse_args(arguments)
    minutes = asked.minutes if asked.minutes is not None else _SMALL_MINUTES if asked.small else _MINUTES
    known = [part.name for part in PARTS]
    unknown = sorted(set(asked.part or ()) - set(known))
    if not (math.isfinite(minutes) and minutes > 0):
        parser.error(f"--minutes must be a number above 0, got {minutes}")
    if unknown:
        parser.error(f"unknown --part {unknown[0]!r}; known: {', '.join(known)}")
    if asked.small:
        torch.set_num_threads(1)  # small networks on shared machines
        os.environ["OMP_NUM_THREADS"] = "1"  # for pytest
    missing = theirs.make_importable(ROOT)
    try:
        book = Book(asked.out)
        with written_to(book.log):
            preload(missing is None)
            method = start_method(cuda=not asked.small)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    device = torch.device("cpu" if asked.small else "cuda")
    setup = Setup(device, asked.small, began + 60 * minutes, ROOT)
    book.write("", header(ROOT, asked.small, asked.commit))
    if missing is not None:
        book.write("", omitted("comparisons with Diffusers", missing))
    chosen = [part for part in PARTS if not asked.part or part.name in asked.part]
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        run_parts(chosen, setup, book, method)
    except KeyboardInterrupt:
        book.write("", omitted("all that would have followed", "the benchmark was interrupted"))
        return 130
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sadaflow.bench.gpu", description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where gpu.jsonl, gpu.md and gpu.log go"
    )
    parser.add_argument(
        "--minutes", type=float, help=f"time of all parts (default {_MINUTES:g}; --small {_SMALL_MINUTES:g})"
    )
    parser.add_argument("--small", action="store_true", help="rehearse all parts on the CPU with small networks")
    parser.add_argument("--commit", metavar="TEXT", help="what the page names, if the checkout comes without git")
    parser.add_argument("--part", action="append", metavar="NAME", help="run this part only; may be repeated")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
