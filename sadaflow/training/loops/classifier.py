"""A small classifier of the pictures; its features measure how near generated pictures are to held-out ones."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data_parallel import Team
from .loop import restored, train_loop
from .record import LoopSettings
from .state import Log
from .vae import to_signed

FEATURES = 32


@dataclass(frozen=True)
class ClassifierSettings(LoopSettings):
    """Settings of the training of the classifier."""

    minutes: float = 8.0
    samples: int = 60_000
    ema_decay: float = 0.99
    seed: int = 3


class Classifier(nn.Module):
    """Four convolutions, the mean over positions, and a linear layer.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, FEATURES)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in zip(widths, widths[1:], strict=False)
        )
        self.head = nn.Linear(FEATURES, classes)

    def features(self, pictures: Tensor) -> Tensor:
        """Features (B, FEATURES) of pictures (B, 3, H, W) in bytes."""
        hidden = to_signed(pictures)
        for layer in self.layers:
            hidden = F.silu(layer(hidden))
        return hidden.mean((2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (B, classes) of pictures (B, 3, H, W) in bytes."""
        return self.head(self.features(pictures))


def train_classifier(
    settings: ClassifierSettings, pictures: Tensor, labels: Tensor, classes: int, folder: Path, log: Log
) -> Classifier:
    """Trains a classifier in this process, or resumes; the state is in folder/classifier.pt.

    Args:
        settings: The settings.
        pictures: Pictures (N, 3, H, W) in bytes.
        labels: Labels (N,).
        classes: Number of classes.
        folder: Folder to write to and to resume from.
        log: Writes progress.
    """
    torch.manual_seed(settings.seed)
    net = Classifier(classes)

    def loss(count: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(labels), (count,), generator=generator)
        return F.cross_entropy(net(pictures[rows]), labels[rows])

    path = folder / "classifier.pt"
    train_loop(Team(), settings, net, loss, path, log)
    return restored(path, Classifier(classes))
