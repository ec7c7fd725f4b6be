"""Textual inversions of a text encoder: words that stand for vectors of their own (Gal et al. 2022, arXiv 2208.01618).

Tokenizer and encoder stay as they are. A copy of the tokenizer knows the new words; their ids are replaced by others
before the encoder embeds them, and the vectors are put in their places after.
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

    def ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts with special tokens; a word for n vectors is n times its id, and nothing is cut."""
        counts = {self._extended.convert_tokens_to_ids(token): len(rows) for token, rows in self.vectors.items()}
        found = self._extended(list(prompts))["input_ids"]
        return [[index for index in row for _ in range(counts.get(index, 1))] for row in found]

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
        starts = {self._extended.convert_tokens_to_ids(token): rows for token, rows in self.vectors.items()}
        added = torch.isin(ids, torch.tensor(list(starts), device=ids.device))
        rows = torch.cat([_in_turn(row, starts) for row in ids.tolist()])
        layer: Any = encoder.get_input_embeddings()  # type: ignore[operator]
        with _ENCODING:
            handle = layer.register_forward_hook(_substitute(added, rows))
            try:
                yield ids.masked_fill(added, 0)
            finally:
                handle.remove()


def _in_turn(ids: list[int], starts: dict[int, Tensor]) -> Tensor:
    """The vectors of the added words in `ids`, in their order; n ids in succession are the n vectors of a word."""
    chosen, position, last = [], 0, None
    for index in ids:
        rows = starts.get(index)
        if rows is not None:
            position = (position + 1) % len(rows) if index == last else 0
            chosen.append(rows[position])
        last = index
    width = next(iter(starts.values())).shape[1]
    return torch.stack(chosen) if chosen else torch.empty(0, width)


def _substitute(added: Tensor, rows: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        places = added.to(output.device)
        return output.masked_scatter(places[..., None], rows.to(output))

    return hook
