"""Textual inversions of a text encoder: words that stand for vectors of their own (Gal et al. 2022, arXiv 2208.01618).

Tokenizer and encoder stay as they are. A copy of the tokenizer knows the new words. Each vector of a word has an id of
its own, beyond those of the tokenizer, so that a word may be cut or divided anywhere. The ids are replaced by another
before the encoder embeds them, and the vectors take the positions of its embeddings.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

_ENCODING = Lock()
"""Held while an encoder's embedding is changed: it is the same for all calls."""


class AddedTokens:
    """The words that were added to a tokenizer, with their vectors."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._extended = tokenizer
        self._first = 0  # the id of the first vector
        self.vectors: dict[str, Tensor] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.vectors)

    def check(self, token: str) -> None:
        """Raise ValueError if a word cannot be added because the tokenizer has it."""
        if token in self._extended.get_vocab():
            raise ValueError(f"the tokenizer already has the token {token!r}: give another one, token=")

    def add(self, token: str, vectors: Tensor) -> None:
        """Add a word that stands for `vectors` (n, width)."""
        self.check(token)
        self.vectors[token] = vectors
        self._extend()

    def remove(self, token: str) -> None:
        """Undo `add`."""
        del self.vectors[token]
        self._extend()

    def _extend(self) -> None:
        self._extended = self._tokenizer
        if self.vectors:
            self._extended = copy.deepcopy(self._tokenizer)
            self._extended.add_tokens(list(self.vectors))
            self._first = max(self._extended.get_vocab().values()) + 1

    def ids(self, prompts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """Token ids of prompts, of which nothing is cut; a word for n vectors has n ids.

        Args:
            prompts: The prompts.
            special: Whether the tokens that begin and end a prompt are added.
        """
        found = self._extended(list(prompts), add_special_tokens=special)["input_ids"]
        start, own = self._first, {}
        for token, rows in self.vectors.items():
            own[self._extended.convert_tokens_to_ids(token)] = range(start, start + len(rows))
            start += len(rows)
        return [[vector for index in row for vector in own.get(index, (index,))] for row in found]

    @contextmanager
    def embedded(self, encoder: nn.Module, ids: Tensor) -> Iterator[Tensor]:
        """Context manager in which `encoder` embeds the added words in `ids` as their vectors.

        Args:
            encoder: A `transformers` text encoder.
            ids: Token ids (B, length).

        Returns:
            The ids to call the encoder with. An added word has the id 0 there, so that encoders which take the largest
            id for the end token find the end.
        """
        added = ids >= self._first
        rows = torch.cat(list(self.vectors.values()))[(ids[added] - self._first).cpu()]
        layer: Any = encoder.get_input_embeddings()  # type: ignore[operator]
        with _ENCODING:
            handle = layer.register_forward_hook(_substitute(added, rows))
            try:
                yield ids.masked_fill(added, 0)
            finally:
                handle.remove()


def _substitute(added: Tensor, rows: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output.masked_scatter(added.to(output.device)[..., None], rows.to(output))

    return hook
