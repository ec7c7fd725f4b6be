"""Members that a family may have beside those of `Family`, and what holds for families without them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from torch import nn

from sadaflow.models import Autoencoder
from sadaflow.models.original_layout import OriginalLayout

from ..loading.sampling_defaults import Recommended
from ..loading.single_file.layout import Conversion
from ..loading.strict import Convert
from .base import Family
from .request import Request

REFERENCE: Final = "reference"
"""Value of `reads` of a family that reads `image` itself, beside the prompt, and samples from pure noise."""


def autoencoder_class(family: type[Family]) -> type[Autoencoder]:
    """The class of a family's autoencoder: its `autoencoder`, or else the KL autoencoder of latent diffusion."""
    found: type[Autoencoder] = getattr(family, "autoencoder", Autoencoder)
    return found


ReadJson = Callable[[str], Mapping[str, Any]]
"""Reads a JSON file of a checkpoint by its path in it ("transformer/config.json")."""


Build = Callable[[Mapping[str, Any]], nn.Module]
"""Builds a network from its config.json."""

Builders = Mapping[str, tuple[str, Build]]
"""By component the class in Diffusers of a network, and what builds it."""


def builders_of(family: type[Family]) -> Builders:
    """How the networks of a family are built for checkpoints with random weights: its `builders`; empty without."""
    found: Builders = getattr(family, "builders", {})
    return found


def recommended_by(family: type[Family], read: ReadJson) -> Recommended:
    """What the authors of a family's architecture recommend; nothing if the family does not say.

    Args:
        family: The family; its class method `recommended(read)` says it.
        read: Reads the checkpoint's files.
    """
    recommend = getattr(family, "recommended", None)
    return Recommended() if recommend is None else recommend(read)


def original_of(family: type[Family]) -> Conversion:
    """From the authors' names of the tensors of a family's network to the Hub's.

    Args:
        family: The family. Its `original` converts a tensor; without it, the network's `OriginalLayout`; without both,
            nothing changes.
    """
    own = getattr(family, "original", None)

    def conversion(network: Any) -> Convert:
        if own is not None:
            return lambda name, tensor: own(name, tensor, network.config)
        layout: OriginalLayout | None = getattr(network, "original", None)
        return (lambda name, tensor: {name: tensor}) if layout is None else layout.convert

    return conversion


def scheduler_of_call(family: Family, config: dict[str, Any], tokens: int, steps: int) -> dict[str, Any]:
    """The scheduler config of one call.

    Args:
        family: The family; if its shift of flow time has a rule of its own, its method `sized_scheduler` knows it.
        config: The checkpoint's scheduler config.
        tokens: Number of image tokens.
        steps: Number of steps.
    """
    sized = getattr(family, "sized_scheduler", None)
    return config if sized is None else sized(config, tokens, steps)


def empty_negative(family: Family) -> str | None:
    """The negative prompt of calls that measure a checkpoint: its `empty_negative` if guidance needs one, else None."""
    found: str | None = getattr(family, "empty_negative", None)
    return found


def with_texts(request: Request, family: Family, texts: Sequence[str]) -> Request:
    """A request with texts: prompts, or the class labels of a checkpoint that is sampled by class.

    Args:
        request: The request, without prompts and labels.
        family: The family of the checkpoint.
        texts: Prompts, which get the family's empty negative prompt; or names or numbers of labels.
    """
    if "class_labels" not in family.options:
        return replace(request, prompt=tuple(texts), negative_prompt=empty_negative(family))
    return replace(request, class_labels=tuple(int(text) if text.isdigit() else text for text in texts))


def picture_optional(family: Family) -> bool:
    """Whether a family with pictures as references is also sampled without any: its `picture_optional`, or False."""
    return bool(getattr(family, "picture_optional", False))


def sized_by_family(family: Family, request: Request) -> Request:
    """The request with the height and width that a family with pictures as references gives it.

    Args:
        family: The family; if its `reads` is `REFERENCE`, its method `size_for(request)` returns height and width.
        request: The request. What it gives itself stays.
    """
    if getattr(family, "reads", None) != REFERENCE or request.image is None or request.noise is not None:
        return request
    height, width = family.size_for(request)  # type: ignore[attr-defined]
    return replace(request, height=request.height or height, width=request.width or width)
