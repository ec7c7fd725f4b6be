"""Command-line options of the trainings of embedded checkpoints."""

import argparse
import os
from pathlib import Path


def training_parser(description: str | None, checkpoint: Path) -> argparse.ArgumentParser:
    """A parser with the options that all trainings share.

    Args:
        description: Text of --help.
        checkpoint: Default output folder; the work folder and the contact sheet are named after it.
    """
    name = checkpoint.name
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build") / name, help="folder of the stages")
    parser.add_argument("--out", type=Path, default=checkpoint, help="folder of the checkpoint")
    parser.add_argument("--sheet", type=Path, default=Path("docs") / f"{name}-contact-sheet.png", help="contact sheet")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--no-compile", action="store_true", help="train without torch.compile")
    parser.add_argument("--export", action="store_true", help="do not train; export the last checkpoint")
    return parser
