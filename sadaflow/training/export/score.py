"""Compares generated pictures with held-out ones by the features of a classifier."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ...metrics.features import frechet_distance
from ..loops.classifier import Classifier


@dataclass(frozen=True)
class Score:
    """How near pictures are to held-out pictures of the same classes.

    Attributes:
        distance: Fréchet distance of the classifier's features; as the FID, with other features.
        accuracy: Fraction that the classifier assigns to the class that was asked for.
        nearest: Median over pictures of the root mean square difference, of the range of a pixel, to the most similar
            training picture.
    """

    distance: float
    accuracy: float
    nearest: float

    @classmethod
    @torch.no_grad()
    def of(cls, classifier: Classifier, pictures: Tensor, labels: Tensor, held_out: Tensor, seen: Tensor) -> Self:
        """Computes the score of pictures.

        Args:
            classifier: The classifier.
            pictures: Pictures (N, 3, H, W) in bytes.
            labels: The classes that were asked for, (N,).
            held_out: Held-out pictures (M, 3, H, W).
            seen: Training pictures (K, 3, H, W).
        """
        features = classifier.features(pictures)
        return cls(
            distance=frechet_distance(features, classifier.features(held_out)),
            accuracy=float((classifier.head(features).argmax(1) == labels).float().mean()),
            nearest=float(nearest(pictures, seen).median()),
        )


def nearest(pictures: Tensor, seen: Tensor, batch: int = 200) -> Tensor:
    """Root mean square difference (N,) of each picture in bytes to the most similar of `seen`, of the range [0, 1]."""
    known = seen.flatten(1).float() / 255
    parts = [torch.cdist(part.flatten(1).float() / 255, known).amin(1) for part in pictures.split(batch)]
    return torch.cat(parts) / known.shape[1] ** 0.5
