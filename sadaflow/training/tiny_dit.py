"""Trains the embedded checkpoint `tiny-dit`: `python -m sadaflow.training.tiny_dit`.

The stages are pictures, rectified flow, classifier, score, and export. Each is stored in the work folder and resumed
from there. The flow begins from random weights, or with `--from FOLDER` from those of an exported checkpoint.
`--export` exports the last checkpoint, also during training.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from sadaflow.models import Autoencoder, DiT

from ..loading.embedded import EMBEDDED
from ..loading.hub.write import write_json
from .arguments import training_parser
from .data.scenes import CLASSES, draw_scenes
from .export.card import dit_card
from .export.contact_sheet import to_bytes, write_sheet
from .export.dit import write_dit_checkpoint
from .export.identity_vae import DIT_VAE_CONFIG, identity_autoencoder
from .export.score import Score
from .loops.classifier import Classifier, ClassifierSettings, train_classifier
from .loops.data_parallel import run_team
from .loops.labelled_flow import GUIDANCE, SHIFT, STEPS, LabelledData, LabelledSettings, build, train_labelled
from .loops.loop import restored
from .loops.state import Log, write_value

CHECKPOINT = EMBEDDED / "tiny-dit"
TRAINED = 500
"""Training pictures of each class."""
SHEET_ROWS = 3
SCORED = 25
"""Pictures of each class that are scored."""
HELD_OUT = 10_000_000
"""First seed of the held-out pictures; those of the training pictures are smaller."""


def make_scenes(folder: Path, count: int) -> tuple[Tensor, Tensor]:
    """Stage 1: `count` pictures of each class, (12 * count, 3, 32, 32) in bytes, and their labels (12 * count,)."""
    path = folder / "pictures.pt"
    labels = every_class(count)
    if not path.is_file():
        write_value(path, draw_scenes(labels, 0))
    pictures: Tensor = torch.load(path, weights_only=True)
    return pictures, labels


def every_class(count: int) -> Tensor:
    """All labels, `count` times: (12 * count,)."""
    return torch.arange(len(CLASSES)).repeat(count)


@torch.no_grad()
def draw_labels(net: DiT, vae: Autoencoder, labels: Tensor, seed: int, batch: int = 60) -> Tensor:
    """Draws pictures by Euler's method with the checkpoint's steps and guidance.

    Args:
        net: The transformer.
        vae: The autoencoder.
        labels: Labels (N,).
        seed: Seed of the noise of all.
        batch: Samples in memory at a time.

    Returns:
        Pictures (N, 3, 32, 32) in bytes.
    """
    side = net.config.sample_size
    noise = torch.randn(len(labels), net.config.in_channels, side, side, generator=torch.Generator().manual_seed(seed))
    line = torch.linspace(1, 0, STEPS + 1)
    levels = SHIFT * line / (1 + (SHIFT - 1) * line)
    parts = []
    for x, own in zip(noise.split(batch), labels.split(batch), strict=True):
        both = torch.cat((torch.full_like(own, net.null_label), own))
        for sigma, following in zip(levels[:-1], levels[1:], strict=True):
            plain, labelled = net(torch.cat((x, x)), 1000 * sigma, both).chunk(2)
            x = x + (following - sigma) * (plain + GUIDANCE * (labelled - plain))
        parts.append(to_bytes(vae.decode(x / vae.config.scaling_factor)))
    return torch.cat(parts)


@dataclass(frozen=True)
class SheetMaker:
    """Writes contact sheets: a column for each class.

    Attributes:
        vae: The autoencoder.
    """

    vae: Autoencoder

    def __call__(self, net: DiT, path: Path) -> None:
        labels = every_class(SHEET_ROWS)
        names = [list(CLASSES)[label] for label in labels.tolist()]
        write_sheet(path, draw_labels(net, self.vae, labels, seed=0), names, columns=len(CLASSES))


@torch.no_grad()
def scores(
    net: DiT, vae: Autoencoder, classifier: Classifier, pictures: Tensor, folder: Path, log: Log
) -> dict[str, Score]:
    """Stage 4: the score of generated pictures, and that of true ones.

    Args:
        net: The transformer.
        vae: The autoencoder.
        classifier: The classifier whose features are compared.
        pictures: Training pictures (N, 3, 32, 32) in bytes.
        folder: Folder of the stages.
        log: Writes progress.

    Returns:
        Scores against a held-out set: of "generated" pictures, and of another "held_out" set.
    """
    asked = every_class(SCORED)
    reference, others = (draw_scenes(asked, HELD_OUT + part * len(asked)) for part in range(2))
    compared = {"generated": draw_labels(net, vae, asked, seed=1), "held_out": others}
    found = {name: Score.of(classifier, made, asked, reference, pictures) for name, made in compared.items()}
    write_json(folder / "scores.json", {name: asdict(score) for name, score in found.items()})
    log(f"scores: {found}")
    return found


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = training_parser(__doc__, CHECKPOINT)
    parser.add_argument("--minutes", type=float, default=LabelledSettings.minutes, help="end of the flow's training")
    parser.add_argument("--samples", type=int, default=LabelledSettings.samples, help="end of the flow's training")
    parser.add_argument("--from", dest="start", type=Path, metavar="FOLDER", help="checkpoint to begin from")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the training from the command line."""
    options = parse(arguments)
    work: Path = options.work
    log = Log(work / "log.txt")
    pictures, labels = make_scenes(work, TRAINED)
    vae = identity_autoencoder(DIT_VAE_CONFIG)
    sheet = SheetMaker(vae)
    settings = LabelledSettings(minutes=options.minutes, samples=options.samples, compile=not options.no_compile)
    data = LabelledData(pictures, labels, vae.config.scaling_factor)
    if not options.export:
        run_team(options.workers, train_labelled, settings, data, work, log, sheet, options.start)
    net = restored(work / "flow.pt", build())
    recorded = json.loads((work / "flow.json").read_text())
    classifier = train_classifier(ClassifierSettings(), pictures, labels, len(CLASSES), work, log)
    found = scores(net, vae, classifier, pictures, work, log)
    counts = {"pictures": len(pictures), "scored": SCORED * len(CLASSES), "workers": options.workers}
    write_dit_checkpoint(options.out, net, vae, dit_card(net, counts, asdict(settings), recorded, found))
    sheet(net, options.sheet)
    log(f"exported to {options.out}")


if __name__ == "__main__":
    main()
