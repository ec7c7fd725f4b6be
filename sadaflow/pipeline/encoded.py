"""Encodes prompts for several calls, and checks those that a call gives encoded."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..families import Family, Prompted, Request
from ..families.text_family import TextFamily, TextShape
from ..families.text_options import EMBEDS, NEGATIVE_EMBEDS, blend_weights, finite
from ..families.words import Words, same_encoders
from ..loading.mapped_weights import reads_mapped_weights
from ..sampling.prompt_blend import Blend


@reads_mapped_weights
@torch.no_grad()
def encode_prompts(pipe: Any, request: Request) -> Words:
    """Encode the prompts of a request, which has no other arguments.

    Args:
        pipe: The pipeline.
        request: The prompts, and how they are read.

    Raises:
        ValueError: If there is no prompt, or if the checkpoint does not read prompts or an argument.
    """
    family = pipe.family
    if not isinstance(family, TextFamily) or "words" not in pipe.family.options:
        raise ValueError(f"encode() is for the checkpoints of the library that read prompts alone, not {_name(family)}")
    if not request.prompts:
        raise ValueError("no prompt: give a string, or a list with at least one")
    request.refuse_idle(pipe.family.options, _name(family))
    with pipe.turn():
        return family.words(request)


def blend_of(prompted: Prompted, request: Request, evaluations: int) -> Blend | None:
    """What the conditional branch becomes in so many evaluations; None if it stays what it is."""
    return None if prompted.then is None else Blend(prompted.then, blend_weights(request.blend, evaluations))


def check_encoded(request: Request, family: Family) -> None:
    """Check the encoded prompts of a request against a checkpoint, which honours these arguments.

    Raises:
        ValueError: If shapes or values do not fit, or if words were encoded by another checkpoint.
    """
    if not isinstance(family, TextFamily):
        return
    shape = family.text_shape
    if request.words is not None:
        _check_words(request.words, family, _name(family))
    blended = request.blend_prompt if request.encoded_samples is not None else None
    if isinstance(blended, tuple) and None in blended:
        raise ValueError("blend_prompt= must have a prompt for each sample if the prompts are given encoded")
    for states, pooled in (EMBEDS, NEGATIVE_EMBEDS):
        if (embeds := getattr(request, states)) is not None:
            _check_states(states, embeds, request.samples, shape)
            _check_pooled(pooled, getattr(request, pooled), request.samples, shape.pooled)
    if request.prompt_embeds is not None and request.negative_embeds is not None and not (shape.ragged or shape.vector):
        own, other = (_lengths(getattr(request, name)) for name in ("prompt_embeds", "negative_embeds"))
        if own != other:
            raise ValueError(f"prompt_embeds have {own} tokens by sample and negative_embeds {other}: give as many")


def _name(family: object) -> str:
    return type(family).__name__


def _lengths(embeds: Tensor | Sequence[Tensor]) -> list[int]:
    return [row.shape[0] for row in embeds]


def _check_words(words: Words, family: TextFamily, name: str) -> None:
    """Raise ValueError if words are of other text encoders."""
    label = f"words {words.source!r}" if words.source else "words="
    shape, states, pooled = family.text_shape, words.conditional.states, words.conditional.pooled
    widths = states.shape[-1], None if pooled is None else pooled.shape[-1]
    if words.family != name or widths != (shape.width, shape.pooled):
        raise ValueError(
            f"{label} were encoded for {words.family}, {widths[0]} wide, and this checkpoint is {name}, {shape.width} "
            "wide: encode the prompts with it"
        )
    if not same_encoders(words.probe, family.probe):
        raise ValueError(
            f"{label} were encoded by other text encoders than this checkpoint's: of another checkpoint, or with other "
            "LoRAs; encode the prompts with it"
        )


def _check_states(name: str, embeds: Tensor | Sequence[Tensor], samples: int, shape: TextShape) -> None:
    """Raise ValueError if hidden states have a wrong shape or values that are not finite."""
    expected = f"({samples}, {shape.width})" if shape.vector else f"({samples}, tokens, {shape.width})"
    if len(embeds) != samples:
        raise ValueError(f"{name} has {len(embeds)} rows for {samples} samples, expected {expected}")
    for index, row in enumerate(embeds):
        if row.dim() != (1 if shape.vector else 2) or row.shape[-1] != shape.width or 0 in row.shape:
            found = tuple(embeds.shape) if isinstance(embeds, Tensor) else f"{tuple(row.shape)} at {index}"
            raise ValueError(f"{name} has shape {found}, expected {expected}")
        if not finite(row):
            raise ValueError(f"{name}[{index}] is {row.dtype} or holds NaN or infinity, expected finite floats")


def _check_pooled(name: str, pooled: Tensor | None, samples: int, width: int | None) -> None:
    """Raise ValueError if pooled states are missing or do not fit."""
    if width is None:
        return
    states = name.replace("pooled_embeds", "embeds") if "negative" in name else "prompt_embeds"
    if pooled is None:
        raise ValueError(f"{states}= needs {name}=, ({samples}, {width}), on this checkpoint")
    if tuple(pooled.shape) != (samples, width):
        raise ValueError(f"{name} has shape {tuple(pooled.shape)}, expected ({samples}, {width})")
    if not finite(pooled):
        raise ValueError(f"{name} is {pooled.dtype} or holds NaN or infinity, expected finite floats")
