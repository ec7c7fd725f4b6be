"""What families share that read prompts: from text, or encoded prompts, to the conditioning of both branches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import torch
from torch import Tensor, nn

from .base import Conditioning, Prompted
from .guidance_options import Guidance
from .request import Request
from .text_encoding import Encoding, joined, stacked
from .text_options import Embeds
from .words import Words, probe

Text = tuple[str | None, int]
"""A prompt, None for a missing negative prompt; and the number of windows in which a CLIP text encoder reads it."""

ENCODED: Final = frozenset({"prompt_embeds", "negative_embeds", "words"})
"""Names of the arguments of families that take encoded prompts."""
POOLED: Final = frozenset({"pooled_embeds", "negative_pooled_embeds"})
"""The same for families whose networks read pooled states beside."""
WINDOWS: Final = frozenset({"long_prompts", "prompt_weights"})
"""The same for families that read prompts with CLIP alone."""
BLENDED: Final = frozenset({"blend_prompt", "blend"})
"""The same for families whose prompts all have the same number of tokens."""

PROMPT, NEGATIVE, BLEND = "prompt", "negative_prompt", "blend_prompt"
Sides = Mapping[str, Sequence[str | None]]
"""Prompts of all samples by the names of the arguments that give them; None is a missing negative prompt."""


@dataclass(frozen=True)
class TextShape:
    """The shape of encoded prompts.

    Attributes:
        width: Width of the hidden states.
        pooled: Width of the pooled states; None if there are none.
        vector: Whether a prompt is a single state (width,) instead of (L, width).
        ragged: Whether prompts have different numbers of tokens, without padding.
    """

    width: int
    pooled: int | None = None
    vector: bool = False
    ragged: bool = False


class TextFamily:
    """Base class of these families; subclasses encode texts, and turn encodings into arguments of their networks."""

    dtype: torch.dtype

    @property
    def text_shape(self) -> TextShape:
        """The shape of encoded prompts."""
        raise NotImplementedError

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """All networks by name."""
        raise NotImplementedError

    @property
    def guidable(self) -> bool:
        """Whether the network may be guided by a negative prompt."""
        return True

    def encode_texts(self, texts: Sequence[Text], request: Request) -> Encoding:
        """Encode texts, a row for each, with the options of a request."""
        raise NotImplementedError

    def given(self, encoding: Encoding) -> Conditioning:
        """The arguments of the network for encoded prompts, a row for each."""
        pooled = {} if encoding.pooled is None else {"pooled": encoding.pooled}
        return {"context": encoding.states, **pooled}

    def beside_text(self, request: Request, like: Tensor, *, negative: bool) -> Conditioning:
        """Further arguments of a branch, on the device of `like`."""
        return {}

    def negative_guidance(self, request: Request) -> Guidance | None:
        """Guidance between the branches; None if the negative branch is left out."""
        return request.known_guidance if request.guided and self.guidable else None

    def negatives(self, request: Request) -> Sequence[str | None] | None:
        """The negative prompts that are encoded with the prompts for other calls; None if they are not read."""
        return request.negatives if self.guidable else None

    def windows(self, sides: Sides, request: Request) -> list[int]:
        """Number of windows of each sample, which all its prompts in `sides` share."""
        return [1] * request.samples

    def encode(self, sides: Sides, request: Request) -> dict[str, Encoding]:
        """Encode prompts; a text that occurs several times is encoded once.

        Args:
            sides: The prompts by the names of their arguments.
            request: Says how they are read.
        """
        counts = self.windows(sides, request)
        keys = {name: list(zip(side, counts, strict=True)) for name, side in sides.items()}
        unique = list(dict.fromkeys(chain(*keys.values())))
        encoded = self.encode_texts(unique, request)
        return {name: encoded.rows([unique.index(key) for key in side]) for name, side in keys.items()}

    def condition(self, request: Request) -> Prompted:
        """Encode the prompts of a request whose size and guidance are filled in."""
        guidance = self.negative_guidance(request)
        parts = self._parts(request, guided=guidance is not None)
        given = self.given(joined(list(parts.values())))
        split: dict[str, dict[str, Tensor]] = {side: {} for side in parts}
        for name, tensor in given.items():
            for own, rows in zip(split.values(), tensor.chunk(len(parts)), strict=True):
                own[name] = rows
        like = next(iter(given.values()))
        conditional = {**split[PROMPT], **self.beside_text(request, like, negative=False)}
        negative = {**split[NEGATIVE], **self.beside_text(request, like, negative=True)} if NEGATIVE in split else None
        return Prompted(conditional, negative, guidance, then=split.get(BLEND))

    def _parts(self, request: Request, *, guided: bool) -> dict[str, Encoding]:
        """All encoded prompts of a request by the names of their arguments, those that are given encoded as well."""
        texts: dict[str, Sequence[str | None]] = {PROMPT: request.prompts}
        given = {PROMPT: given_prompts(request)}
        if guided:
            texts[NEGATIVE], given[NEGATIVE] = request.negatives, given_negatives(request)
        if request.blend_prompt is not None:
            texts[BLEND] = request.blend_prompts
        found = {side: encoding for side, encoding in given.items() if encoding is not None}
        left = {side: text for side, text in texts.items() if side not in found}
        encoded = self.encode(left, request) if left else {}
        parts = {side: {**found, **encoded}[side] for side in texts}
        self._check_alike(parts)
        device = next(iter((encoded or parts).values())).states.device
        return {side: part.to(device, self.dtype) for side, part in parts.items()}

    def _check_alike(self, parts: Mapping[str, Encoding]) -> None:
        """Check that all sides of a sample have as many tokens; raises ValueError."""
        if self.text_shape.ragged or self.text_shape.vector:
            return
        for side, part in parts.items():
            for index, (found, other) in enumerate(zip(parts[PROMPT].all_lengths, part.all_lengths, strict=True)):
                if found != other:
                    raise ValueError(
                        f"sample {index}: {PROMPT} is encoded to {found} tokens and {side} to {other}; they must be as "
                        "many: give both as text, or both encoded"
                    )

    def words(self, request: Request) -> Words:
        """The prompts of a request, encoded for use in other calls, on the CPU."""
        negatives = self.negatives(request)
        sides = {PROMPT: request.prompts, **({} if negatives is None else {NEGATIVE: negatives})}
        encoded = {side: part.to(torch.device("cpu")) for side, part in self.encode(sides, request).items()}
        return Words(request.prompts, encoded[PROMPT], encoded.get(NEGATIVE), type(self).__name__, self.probe)

    @property
    def probe(self) -> Tensor:
        """Values by which the text encoders are recognised."""
        return probe([network for name, network in self.networks.items() if name.startswith("text")])


def given_prompts(request: Request) -> Encoding | None:
    """The encoded prompts that a request gives; None if they are text."""
    if request.words is not None:
        return request.words.conditional
    return None if request.prompt_embeds is None else as_encoding(request.prompt_embeds, request.pooled_embeds)


def given_negatives(request: Request) -> Encoding | None:
    """The encoded negative prompts that a request gives; None if they are text, or missing."""
    if request.words is not None:
        return request.words.negative
    states, pooled = request.negative_embeds, request.negative_pooled_embeds
    return None if states is None else as_encoding(states, pooled)


def as_encoding(states: Embeds, pooled: Tensor | None) -> Encoding:
    """An encoding of what a call gives; see `TextOptions`."""
    if isinstance(states, Tensor):
        return Encoding(states, pooled)
    return stacked(states, pooled) if states[0].dim() == 2 else Encoding(torch.stack(list(states)), pooled)
