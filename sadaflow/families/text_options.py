"""The arguments of calls that say how prompts are read, or that give them encoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from .argument import argument, cannot_be_used, choice, flag, optional, text_or_texts
from .values import listed, real_number
from .words import Words, read_words

CUT, CHUNKS = "cut", "chunks"
"""What is done with a prompt that is longer than a CLIP text encoder's input."""

Embeds = Tensor | Sequence[Tensor]
"""Hidden states of prompts, (B, L, width) or a sequence of (L, width)."""

Blend = tuple[float, float] | Callable[[float], float]
"""When a prompt becomes another: from one fraction of the evaluations to another, or a weight for each fraction."""

EMBEDS: Final = ("prompt_embeds", "pooled_embeds")
NEGATIVE_EMBEDS: Final = ("negative_embeds", "negative_pooled_embeds")


def _read_embeds(name: str, value: Any) -> Tensor | tuple[Tensor, ...]:
    if isinstance(value, Tensor):
        return value
    several = list(value) if isinstance(value, (list, tuple)) else []
    if not several or not all(isinstance(row, Tensor) for row in several):
        raise ValueError(cannot_be_used(name, value, "a tensor, or a list of one for each sample"))
    return tuple(several)


def _read_pooled(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValueError(cannot_be_used(name, value, "a tensor (B, width)"))
    return value


def _read_blend_prompt(name: str, value: Any) -> str | None | tuple[str | None, ...]:
    found = text_or_texts(name, value)
    return None if isinstance(found, tuple) and not any(entry is not None for entry in found) else found


def _read_blend(name: str, value: Any) -> Blend:
    if callable(value):
        return value
    several = listed(value)
    if several is None or len(several) != 2:
        raise ValueError(cannot_be_used(name, value, "two fractions of the steps, (start, end), or a function"))
    start, end = (real_number(name, entry) for entry in several)
    if not 0 <= start <= end <= 1:
        raise ValueError(f"{name}=({start:g}, {end:g}) are not two fractions of the steps with 0 <= start <= end <= 1")
    return start, end


@dataclass(frozen=True)
class TextOptions:
    """Arguments of checkpoints that read prompts.

    Attributes:
        prompt_embeds: Encoded prompts in place of `prompt`: hidden states (B, L, width), or a sequence of (L, width);
            (B, width) for MusicLDM.
        negative_embeds: Encoded negative prompts in place of `negative_prompt`, likewise.
        pooled_embeds: With `prompt_embeds` on SDXL, Flux.1 and Stable Diffusion 3: pooled states (B, width).
        negative_pooled_embeds: With `negative_embeds`, likewise.
        words: Prompts that `Pipeline.encode` has encoded, or the file to which they were saved.
        long_prompts: "cut", or "chunks" to encode a prompt that is longer than CLIP's input piece by piece.
        prompt_weights: Whether brackets in prompts are weights: (word:1.3), (word) for 1.1, [word] for 1 / 1.1.
        blend_prompt: Prompt that takes the place of `prompt` in the course of the steps: one for all samples, or a
            sequence with one (or None) for each.
        blend: (start, end): fractions of the evaluations between which it does so, linearly; equal ones switch. Or a
            function from the fraction to the weight of `blend_prompt`.
    """

    prompt_embeds: Embeds | None = argument(None, optional(_read_embeds), "Encoded prompts.")
    negative_embeds: Embeds | None = argument(None, optional(_read_embeds), "Encoded negative prompts.")
    pooled_embeds: Tensor | None = argument(None, optional(_read_pooled), "Pooled states of the prompts.")
    negative_pooled_embeds: Tensor | None = argument(
        None, optional(_read_pooled), "Pooled states of the negative prompts."
    )
    words: Words | None = argument(
        None, optional(read_words), "Encoded prompts, as Pipeline.encode saves them.",
        flag_type=str, metavar="FILE",
    )  # fmt: skip
    long_prompts: str = argument(
        CUT, choice((CUT, CHUNKS)), "On SD and SDXL: cut long prompts, or encode them in chunks.", flag_type=str,
        metavar="cut|chunks", shown_default=CUT,
    )  # fmt: skip
    prompt_weights: bool = argument(
        False, flag, "On SD and SDXL: (word:1.3), (word) and [word] are weights.", flag_type=bool
    )
    blend_prompt: str | None | Sequence[str | None] = argument(
        None, _read_blend_prompt, "Prompt that the prompt becomes during the steps.",
        flag_type=list[str], metavar="PROMPT", per_sample=True,
    )  # fmt: skip
    blend: Blend = argument(
        (0.0, 1.0), _read_blend, "Fractions of the steps between which it does.",
        flag_type=tuple[float, float], metavar="START END", shown_default="0 1",
    )  # fmt: skip

    @property
    def encoded_samples(self) -> int | None:
        """Number of samples of prompts that are given encoded; None if they are text."""
        if self.words is not None:
            return len(self.words)
        return None if self.prompt_embeds is None else len(self.prompt_embeds)


def check_text(options: Any) -> None:
    """Check that the arguments of a request fit each other.

    Raises:
        ValueError: If prompts are given in two ways, or if an argument needs another that is missing.
    """
    if options.words is not None:
        for name in (*EMBEDS, *NEGATIVE_EMBEDS, "negative_prompt"):
            if getattr(options, name) is not None:
                raise ValueError(f"words= hold the prompts and the negative prompts: leave out {name}=")
        for name, plain in (("long_prompts", CUT), ("prompt_weights", False)):
            if getattr(options, name) != plain:
                raise ValueError(f"words= are encoded already: give {name}= to encode()")
    for states, pooled, text in ((*EMBEDS, "prompt"), (*NEGATIVE_EMBEDS, "negative_prompt")):
        if getattr(options, pooled) is not None and getattr(options, states) is None:
            raise ValueError(f"{pooled}= needs {states}=")
        if getattr(options, states) is not None and any(filter(None, listed(getattr(options, text)) or ())):
            raise ValueError(f"{states}= and {text}= both give the {text.replace('_', ' ')}: leave one out")
    if options.blend_prompt is None and options.blend != (0.0, 1.0):
        raise ValueError("blend= needs blend_prompt=, the prompt that the prompt becomes")


def blend_weights(blend: Blend, evaluations: int) -> tuple[float, ...]:
    """The weight of the second prompt in each evaluation of the network.

    Evaluation i of n stands for the middle of its part of the trajectory, (i + 1/2) / n.

    Raises:
        ValueError: If a function returns something else than a finite number.
    """
    fractions = [(index + 0.5) / evaluations for index in range(evaluations)]
    if not isinstance(blend, tuple):
        return tuple(real_number(f"blend({fraction:g})", blend(fraction)) for fraction in fractions)
    start, end = blend
    width = end - start
    return tuple(min(max((f - start) / width, 0.0), 1.0) if width else float(f >= start) for f in fractions)


def sliced(embeds: Embeds | None, index: int) -> Embeds | None:
    """The encoded prompt of a sample alone."""
    return None if embeds is None else embeds[index : index + 1]


def finite(tensor: Tensor) -> bool:
    """Whether all values are finite floats."""
    return tensor.is_floating_point() and bool(torch.isfinite(tensor).all())
