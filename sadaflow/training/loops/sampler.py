"""Draws the pictures and captions of a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .record import LoopSettings


@dataclass(frozen=True)
class CaptionSettings(LoopSettings):
    """Settings of a training on captioned pictures.

    Attributes:
        caption_dropout: Fraction of captions that are replaced by the empty caption.
        plain_phrasing: Fraction of captions without a phrase around them.
        plain_pictures: Fraction of pictures that are not varied in position and scale; random variants add to it.
    """

    caption_dropout: float = 0.1
    plain_phrasing: float = 0.8
    plain_pictures: float = 0.5


@dataclass(frozen=True)
class Choice:
    """The entries of a batch, as indices (count,).

    Attributes:
        rows: Pictures.
        variants: Variants of the pictures.
        captions: Captions of the pictures.
        phrasing: Phrasings of the captions.
    """

    rows: Tensor
    variants: Tensor
    captions: Tensor
    phrasing: Tensor


def choose(
    weights: Tensor,
    captions: Tensor,
    variants: int,
    phrasings: int,
    count: int,
    settings: CaptionSettings,
    generator: torch.Generator,
) -> Choice:
    """Draw the entries of a batch; the first variant is the unvaried picture, the first phrasing the caption itself.

    Args:
        weights: Sampling weights (N,) of the pictures.
        captions: Number of captions (N,) of each picture.
        variants: Number of variants of every picture.
        phrasings: Number of phrasings.
        count: Number of entries.
        settings: Fractions of plain pictures and phrasings.
        generator: Source of random numbers.
    """

    def uniform() -> Tensor:
        return torch.rand(count, generator=generator)

    rows = torch.multinomial(weights, count, replacement=True, generator=generator)
    variant = (uniform() * variants).long() * (uniform() >= settings.plain_pictures)
    caption = (uniform() * captions[rows]).long()
    others = 1 + (uniform() * (phrasings - 1)).long()
    return Choice(rows, variant, caption, torch.where(uniform() < settings.plain_phrasing, 0, others))
