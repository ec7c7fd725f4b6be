"""Flux.1 Kontext (Black Forest Labs 2025, arXiv 2506.15742): the transformer of Flux.1 reads a picture to edit."""

from collections.abc import Sequence
from typing import Any, ClassVar

from sadaflow.models import AutoencoderConfig, FluxConfig

from ..files.pictures import size_of
from ..loading.sampling_defaults import Recommended
from .base import Prompted
from .flux import Flux
from .hooks import REFERENCE, ReadJson
from .reference_pictures import Size, encoded, opened, resized
from .request import Request

_PORTRAITS = ((1568, 672), (1504, 688), (1456, 720), (1392, 752), (1328, 800), (1248, 832), (1184, 880), (1104, 944))


class FluxKontext(Flux):
    """The components of a FluxKontextPipeline checkpoint, which changes a picture as the prompt says.

    The transformer reads the latents of the picture as further tokens. Without a picture it makes one from the prompt.
    """

    default_guidance: ClassVar[float] = 2.5
    picture_optional: ClassVar[bool] = True
    sizes: ClassVar[Sequence[Size]] = (*_PORTRAITS, (1024, 1024), *((width, height) for height, width in _PORTRAITS))
    """Heights and widths in pixels that the network was trained on."""

    @classmethod
    def reads_of(cls, transformer: FluxConfig, vae: AutoencoderConfig) -> str:
        return REFERENCE

    @classmethod
    def recommended(cls, read: ReadJson) -> Recommended:
        """What the published pipeline and its authors use: 28 steps with guidance 2.5."""
        return Recommended(cls.default_guidance, 28, "euler")

    def size_for(self, request: Request) -> Size:
        """Height and width in pixels of a request that gives none: those of its picture, resized."""
        return self.fitted(opened(request.image, len(request.prompts), several=False)[0][0])

    def condition(self, request: Request) -> Prompted:
        prompted = super().condition(request)
        if request.image is None:
            return prompted
        pictures = resized(opened(request.image, len(request.prompts), several=False), self.fitted)
        return prompted.both(edited=encoded(self.vae, [row[0] for row in pictures]).to(self.dtype))

    def fitted(self, picture: Any) -> Size:
        """The height and width of `sizes` nearest to the proportions of an opened picture, in whole tokens."""
        height, width = size_of(picture)
        nearest = min(self.sizes, key=lambda size: (abs(width / height - size[1] / size[0]), size[1]))
        token = self.vae.config.downscale * self.patch
        return nearest[0] // token * token, nearest[1] // token * token
