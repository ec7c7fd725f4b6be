"""The command-line options that all trainings of embedded checkpoints share."""

import argparse
import os
from pathlib import Path


def training_parser(description: str | None, checkpoint: Path) -> argparse.ArgumentParser:
    """A parser that knows where things lie and how to run; each training adds what ends it. Its result goes, unless
    told otherwise, into the folder `checkpoint`, whose name the work folder and the contact sheet bear too."""
    name = checkpoint.name
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build") / name, help="where the stages are kept")
    parser.add_argument("--out", type=Path, default=checkpoint, help="where the checkpoint is written")
    parser.add_argument("--sheet", type=Path, default=Path("docs") / f"{name}-contact-sheet.png")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--no-compile", action="store_true", help="train without torch.compile")
    parser.add_argument("--export", action="store_true", help="train nothing, export the last checkpoint")
    return parser
