"""Encodes prompts with a CLIP text encoder in windows, and with a weight for each token.

A window is as long as the encoder's input: start token, tokens, end token, pads. A prompt of several windows is encoded
window by window, and the states of all of them stand end to end.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .prompt_encoder import Batch, ClipText, padded, token_ids
from .weighted_text import Fragment, weighted_fragments

Encode = Callable[[Batch], tuple[Tensor, Tensor | None]]
"""Returns hidden states (N, length, width) of tokenized windows, and pooled ones (N, width) if there are any."""


@dataclass(frozen=True)
class Tokens:
    """A tokenized prompt without start and end tokens.

    Attributes:
        ids: Token ids.
        weights: A weight for each.
    """

    ids: list[int]
    weights: list[float]

    def windows(self, room: int) -> int:
        """Number of windows of `room` tokens that hold the prompt; at least 1."""
        return max(1, -(-len(self.ids) // room))


def room_of(text: ClipText) -> int:
    """Tokens of a prompt that a window holds beside the start and the end token."""
    return text.length - 2


def read_tokens(text: ClipText, prompts: Sequence[str], *, weighted: bool) -> list[Tokens]:
    """Tokenize prompts.

    Args:
        text: The text encoder.
        prompts: The prompts.
        weighted: Whether brackets are weights; see `weighted_fragments`.

    Raises:
        ValueError: If brackets do not match.
    """
    fragments = [_fragments(prompt, weighted) for prompt in prompts]
    ids = iter(token_ids(text.tokenizer, [part for parts in fragments for part, _ in parts], text.added, special=False))
    found = []
    for parts in fragments:
        tokens = Tokens([], [])
        for _, weight in parts:
            own = next(ids)
            tokens.ids.extend(own)
            tokens.weights.extend([weight] * len(own))
        found.append(tokens)
    return found


def _fragments(prompt: str, weighted: bool) -> list[Fragment]:
    return weighted_fragments(prompt) or [("", 1.0)] if weighted else [(prompt, 1.0)]


def encode_windows(
    text: ClipText, tokens: Sequence[Tokens], counts: Sequence[int], encode: Encode
) -> tuple[list[Tensor], Tensor | None]:
    """Encode tokenized prompts in windows.

    The state z of a token of weight w becomes e + w (z - e), where e is the state of an empty prompt at the same
    position of its window: guidance token by token, as compel does for weights above 1
    (https://github.com/damian0815/compel, doc/syntax.md). Start, end and pads have the weight 1.

    Args:
        text: The text encoder.
        tokens: The prompts.
        counts: Number of windows of each; windows beyond its own tokens are empty, and tokens beyond them are cut.
        encode: Runs the encoder.

    Returns:
        States (count * length, width) of each prompt, and the pooled states (N, width) of their first windows.
    """
    room, tokenizer = room_of(text), text.tokenizer
    starts = [(prompt, window * room) for prompt, count in zip(tokens, counts, strict=True) for window in range(count)]
    ids = [prompt.ids[start : start + room] for prompt, start in starts]
    weights = [prompt.weights[start : start + room] for prompt, start in starts]
    weighted = any(weight != 1 for row in weights for weight in row)
    rows = [[tokenizer.bos_token_id, *row, tokenizer.eos_token_id] for row in [*ids, *([[]] if weighted else [])]]
    states, pooled = encode(padded(tokenizer, rows, text.length))
    if weighted:
        states = _weighted(states[:-1], states[-1], weights)
    first = [start for start, (_, token) in enumerate(starts) if token == 0]
    parts = [part.flatten(0, 1) for part in states.split(list(counts))]
    return parts, None if pooled is None else pooled[first]


def _weighted(states: Tensor, empty: Tensor, weights: Sequence[Sequence[float]]) -> Tensor:
    """States (N, length, width) with weights of the tokens after the start token."""
    length = states.shape[1]
    rows = [[1.0, *row, *[1.0] * (length - 1 - len(row))] for row in weights]
    factors = torch.tensor(rows, dtype=states.dtype, device=states.device)[..., None]
    return torch.where(factors == 1, states, empty + factors * (states - empty))


def warn_if_cut(text: ClipText, prompts: Sequence[str], tokens: Sequence[Tokens], counts: Sequence[int]) -> None:
    """Warn of each prompt that has more tokens than its windows hold."""
    for prompt, found, count in zip(prompts, tokens, counts, strict=True):
        if found.windows(room_of(text)) > count:
            length = len(found.ids) + 2
            warnings.warn(f"prompt {prompt!r} has {length} tokens and is cut to {text.length}", stacklevel=5)
