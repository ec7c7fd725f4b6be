"""Encoded prompts: what text encoders return, before it becomes arguments of a network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

_MOST = 60 * 77
"""Tokens to which prompts of different lengths are repeated at most: batches of up to six windows in any mixture."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """Encoded prompts, one row per sample.

    Attributes:
        states: Hidden states (B, L, width); or (B, width) for networks that read a single vector.
        pooled: Pooled states (B, width); None if the network reads none.
        lengths: Number of tokens of each row that the network reads, the first ones; None for all L.
    """

    states: Tensor
    pooled: Tensor | None = None
    lengths: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.states)

    def rows(self, indices: Sequence[int]) -> "Encoding":
        """The encoding of some of the rows, which may repeat."""
        chosen = list(indices)
        lengths = None if self.lengths is None else tuple(self.lengths[index] for index in chosen)
        return Encoding(self.states[chosen], None if self.pooled is None else self.pooled[chosen], lengths)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "Encoding":
        """The encoding on another device, and in another dtype unless that is None."""
        pooled = None if self.pooled is None else self.pooled.to(device, dtype)
        return replace(self, states=self.states.to(device, dtype), pooled=pooled)

    @property
    def all_lengths(self) -> tuple[int, ...]:
        """Number of tokens of each row that are read."""
        return self.lengths or (self.states.shape[1],) * len(self)

    @property
    def even(self) -> bool:
        """Whether as many tokens of all rows are read."""
        return len(set(self.all_lengths)) == 1

    @property
    def known(self) -> Tensor:
        """Which tokens of each row are read, bool (B, L) on the CPU, where L is that of the longest row."""
        lengths = torch.tensor(self.all_lengths)
        return torch.arange(max(self.all_lengths)) < lengths[:, None]


def stacked(rows: Sequence[Tensor], pooled: Tensor | None = None) -> Encoding:
    """An encoding of rows (L, width) of different lengths."""
    lengths = tuple(len(row) for row in rows)
    longest = max(lengths)
    states = torch.stack([F.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
    return Encoding(states, pooled, None if min(lengths) == longest else lengths)


def unpadded(states: Tensor, known: Tensor, start: int = 0) -> Encoding:
    """An encoding of states (B, L, width) without their padding.

    Args:
        states: The states.
        known: Which tokens are not padding, bool (B, L), on any device.
        start: Number of tokens at the start of each row that are left out.
    """
    return stacked([state[own][start:] for state, own in zip(states, known.to(states.device), strict=True)])


def joined(parts: Sequence[Encoding]) -> Encoding:
    """All rows of several encodings, in order."""
    pooled = [part.pooled for part in parts if part.pooled is not None]
    together = torch.cat(pooled) if pooled else None
    if parts[0].states.dim() == 2 or len({part.states.shape[1:] for part in parts}) == 1:
        states = torch.cat([part.states for part in parts])
        if all(part.lengths is None for part in parts):
            return Encoding(states, together)
        return Encoding(states, together, tuple(length for part in parts for length in part.all_lengths))
    rows = [row[:length] for part in parts for row, length in zip(part.states, part.all_lengths, strict=True)]
    return stacked(rows, together)


def repeated(encoding: Encoding) -> Tensor:
    """States (B, L, width) in which all rows have the same number of tokens, for a network without a mask.

    Softmax attention to tokens that are all repeated equally often is attention to the tokens themselves. So rows of
    different lengths are repeated up to a common multiple, and none depends on the others of the batch.

    Raises:
        ValueError: If there is no common multiple of a reasonable size.
    """
    lengths = encoding.all_lengths
    whole = math.lcm(*lengths)
    if min(lengths) == max(lengths):
        return encoding.states[:, :whole]
    if whole > max(_MOST, max(lengths)):
        found = ", ".join(map(str, sorted(set(lengths))))
        raise ValueError(
            f"prompts of {found} encoded tokens in one call would be repeated to {whole} tokens each: sample those of "
            "different lengths in calls of their own (--batch 1)"
        )
    rows = [row[:length].repeat(whole // length, 1) for row, length in zip(encoding.states, lengths, strict=True)]
    return torch.stack(rows)
