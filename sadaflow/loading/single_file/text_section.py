"""Text encoders whose weights are in a single file, and whose config is that of a checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..safetensors_file import Stored
from ..strict import Convert, Loader
from ..text_encoder import BESIDE, add_encoder, empty_encoder, hub_names
from .layout import Section
from .text_encoder import from_clip, from_t5, respelled

_PROJECTION = "text_projection"


@dataclass(frozen=True)
class TextOfSection:
    """A text encoder whose tensors are those of a section.

    Attributes:
        section: The tensors.
        style: Layout of their names: "clip" or "clip_g" (CLIP's names), "t5", or "decoder" (a language model).
        own: The tensors in the checkpoint's own files. CLIP's projection is taken from them if the section lacks it:
            published files of Stable Diffusion 3 do, and the Hub's checkpoint has the identity there.
    """

    section: Section
    style: str
    own: tuple[Stored, ...] = ()

    def load(self, build: Callable[[], Any], loader: Loader) -> Any:
        """Build the encoder on the meta device and match it with the section; the loader reads the weights later.

        Raises:
            ValueError: If tensors are missing, unexpected, misshaped or of the wrong type; each is named.
        """
        borrowed = self._projection()
        stored, label = (*self.section.stored, *borrowed), self.section.label
        encoder = empty_encoder(build, stored, label)
        projected = getattr(encoder, _PROJECTION, None) is not None
        convert = self.section.full(respelled(self._conversion(projected), encoder, BESIDE))
        names, spell = {tensor.name for tensor in borrowed}, hub_names(encoder)

        def both(name: str, tensor: Tensor) -> Mapping[str, Tensor]:
            return spell(name, tensor) if name in names else convert(name, tensor)

        return add_encoder(encoder, stored, both, label, loader)

    def _conversion(self, projected: bool) -> Convert:
        if self.style == "t5":
            return from_t5
        return (lambda name, tensor: {name: tensor}) if self.style == "decoder" else from_clip(projection=projected)

    def _projection(self) -> tuple[Stored, ...]:
        if any(name.startswith(_PROJECTION) for name in self.section.shapes):
            return ()
        return tuple(tensor for tensor in self.own if tensor.name.startswith(_PROJECTION))
