"""Which pictures and captions make a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .loop import LoopSettings


@dataclass(frozen=True)
class CaptionSettings(LoopSettings):
    """What decides the pictures and captions of a batch."""

    caption_dropout: float = 0.1
    plain_phrasing: float = 0.8  # part of the captions that come as they are
    plain_pictures: float = 0.5  # part of the pictures that come as they are, the others vary


@dataclass(frozen=True)
class Choice:
    """Indices (count,) of pictures, of their variants and captions, and of the phrasings that the captions come in."""

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
    """Draw `count` pictures by their `weights` (N,), each with a variant and with one of its `captions` (N,) captions.

    The first variant is the plain picture, the first phrasing the caption as it is.
    """

    def uniform() -> Tensor:
        return torch.rand(count, generator=generator)

    rows = torch.multinomial(weights, count, replacement=True, generator=generator)
    variant = (uniform() * variants).long() * (uniform() >= settings.plain_pictures)
    caption = (uniform() * captions[rows]).long()
    others = 1 + (uniform() * (phrasings - 1)).long()
    return Choice(rows, variant, caption, torch.where(uniform() < settings.plain_phrasing, 0, others))
