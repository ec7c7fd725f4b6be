"""Guidance by a picture and a prompt, for networks that edit pictures."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .base import Branches, Wrapper


@dataclass(frozen=True)
class PictureGuidance(Wrapper):
    """Guidance of InstructPix2Pix, whose second branch sees the picture and no prompt.

    The inner rule guides from the picture's prediction p to the conditional one, and (picture_scale - 1) (p - negative)
    is added. With classifier-free guidance this is the paper's rule.

    Source: Brooks et al. 2023, arXiv 2211.09800, equation 3.

    Attributes:
        picture_scale: Scale of guidance by the picture.
    """

    picture_scale: float = 1.5

    @property
    def further(self) -> int:
        return 1

    def guided(self, branches: Branches, memory: Any) -> Tensor:
        negative, picture, conditional = branches.outputs
        led = super().guided(branches.of(picture, conditional), memory)
        return led + (self.picture_scale - 1) * (picture - negative)
