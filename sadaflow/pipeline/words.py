"""Adds textual inversions to the text encoders of a pipeline."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..loading.embeddings import ANY, Embedding

# Which component the vectors of a name are for; T5 is the second encoder of Flux.1.
_COMPONENTS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5": "text_encoder_2"}


def add_words(embedding: Embedding, encoders: Mapping[str, Any]) -> None:
    """Add the word of a textual inversion to the encoders that it has vectors for.

    Args:
        embedding: The textual inversion.
        encoders: Text encoders by component name; see `Family.prompt_encoders`.

    Raises:
        ValueError: If vectors fit none of the encoders, or if a tokenizer has the word; nothing is changed then.
    """
    chosen = _assign(embedding, encoders)
    for component in chosen:
        encoders[component].added.check(embedding.token)
    for component, vectors in chosen.items():
        encoders[component].added.add(embedding.token, vectors)


def remove_words(embedding: Embedding, encoders: Mapping[str, Any]) -> None:
    """Undo `add_words`."""
    for encoder in encoders.values():
        if embedding.token in encoder.added.vectors:
            encoder.added.remove(embedding.token)


def _assign(embedding: Embedding, encoders: Mapping[str, Any]) -> dict[str, Tensor]:
    """The vectors for each component."""
    widths = {component: _width(encoder) for component, encoder in encoders.items()}
    chosen: dict[str, Tensor] = {}
    for name, vectors in embedding.vectors.items():
        width = vectors.shape[1]
        fitting = [component for component in widths if widths[component] == width]
        if name == ANY:
            fitting = fitting if len(fitting) == 1 else []
        elif name == "clip_l" and "text_encoder" not in widths and "clip_g" in embedding.vectors:
            continue  # the refiner of SDXL has the second encoder alone, and files for SDXL have both
        else:
            fitting = [component for component in fitting if component == _COMPONENTS[name]]
        if not fitting:
            own = ", ".join(f"{component} {width}" for component, width in widths.items()) or "none"
            raise ValueError(
                f"{embedding.source}: the vectors of {embedding.token!r} ({name}) are {width} "
                f"wide and fit no text encoder of this pipeline (widths: {own}); it was made for another model"
            )
        chosen[fitting[0]] = vectors
    return chosen


def _width(encoder: Any) -> int:
    return int(encoder.encoder.get_input_embeddings().weight.shape[1])
