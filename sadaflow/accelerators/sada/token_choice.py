"""Which tokens a pruned evaluation computes: the unstable ones, and a lattice of others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...device.indexing import index_of, taken
from ...device.readback import Readback

_BUCKETS = 16


@dataclass(frozen=True)
class KeptTokens:
    """The positions that samples compute; entry `i` is the sorted indices of sample i's, (count,) int64.

    Attributes:
        order: All positions of each sample, those that it computes first, (B, positions) int64.
        counts: How many each sample computes.
    """

    order: Tensor
    counts: Sequence[int]

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, sample: int) -> Tensor:
        return self.order[sample, : self.counts[sample]].sort().values

    def groups(self) -> Iterator[tuple[list[int], Tensor]]:
        """Yields the samples that compute the same number of positions, with these positions, (samples, count).

        There are at most 16 groups, however many samples.
        """
        for count in sorted(set(self.counts)):
            alike = [sample for sample, other in enumerate(self.counts) if other == count]
            yield alike, taken(self.order, alike)[:, :count].sort(dim=1).values


def keep_tokens(scores: Tensor, cell: int, limit: int, unstable: Sequence[float] | None = None) -> KeptTokens:
    """Selects the positions to compute: the unstable ones (score >= 0), and the centre of each cell.

    Their number is rounded up to a multiple of a sixteenth of all positions, by the next highest scores, so that tensor
    sizes repeat. The selection of a sample depends on its own scores only.

    Args:
        scores: Instability of each position, (B, h, w), or (B, T, h, w) of a video.
        cell: Side length of a cell, also in frames.
        limit: Most unstable positions kept, those of the highest scores.
        unstable: What `unstable_counts` returns for the samples, if it has been read; None reads it from the device.
    """
    total, centres = scores[0].numel(), _centres(scores.shape[1:], cell)
    ranked = _ranked(scores, centres)
    order = ranked.argsort(dim=1, descending=True, stable=True)
    numbers = Readback((ranked >= 0).sum(dim=1)).read() if unstable is None else unstable
    bucket, most = max(1, -(-total // _BUCKETS)), max(limit, len(centres))
    return KeptTokens(order, [min(total, -(-min(int(count), most) // bucket) * bucket) for count in numbers])


def unstable_counts(scores: Tensor, cell: int) -> Tensor:
    """Number of positions of each sample that are unstable or the centre of a cell, (B,) float32.

    Args:
        scores: Instability of each position, (B, h, w), or (B, T, h, w) of a video.
        cell: Side length of a cell.
    """
    ranked = _ranked(scores, _centres(scores.shape[1:], cell))
    return (ranked >= 0).sum(dim=1, dtype=torch.float32)


def _ranked(scores: Tensor, centres: Sequence[int]) -> Tensor:
    """Scores of all positions, (B, positions), infinite at the centres."""
    return scores.flatten(1).index_fill(1, index_of(centres, scores.device), torch.inf)


def _centres(sides: Sequence[int], cell: int) -> list[int]:
    """Positions of the centres of all cells in a grid of these sides, the last axis running fastest."""
    positions = [0]
    for side in sides:
        along = dict.fromkeys(min(start + cell // 2, side - 1) for start in range(0, side, cell))
        positions = [before * side + place for before in positions for place in along]
    return positions
