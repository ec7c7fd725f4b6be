"""The token cache: transformer blocks run on the unstable tokens, the others keep their cached output.

SADA's token-wise pruning (arXiv 2507.17135, Eqs. 18-20): a full evaluation initialises the cache of each block, a
pruned one computes the kept tokens, updates their cache entries and reconstructs the rest from the cache. In a
transformer, where no layer outside the blocks mixes tokens, the stack of blocks is cached as one. Past the paper, the
kept tokens attend to all: keys and values of the pruned ones are those they last had.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from sadaflow.models import Seam, Site

from .inside import places

KEYS = ("cached", "dropped")
_BUCKETS = 16


def keep_tokens(scores: Tensor, cell: int, limit: int) -> list[Tensor]:
    """Per sample, the sorted indices of the positions to compute, from scores (B, h, w).

    Kept are the unstable positions (score >= 0), the highest first up to `limit`, and the centre of each
    `cell` x `cell` cell. The number is rounded up to a sixteenth of all, the next highest scores filling it, so that
    sizes repeat. Depends on each sample's own scores only.
    """
    height, width = scores.shape[-2:]
    total = height * width
    grid = torch.zeros(height, width, dtype=torch.bool, device=scores.device)
    rows, columns = ((torch.arange(0, n, cell) + cell // 2).clamp(max=n - 1) for n in (height, width))
    grid[rows[:, None], columns[None, :]] = True
    ranked = scores.flatten(1).masked_fill(grid.flatten(), torch.inf)
    unstable = (ranked >= 0).sum(dim=1).clamp(max=max(limit, int(grid.sum())))
    bucket = max(1, -(-total // _BUCKETS))
    order = ranked.argsort(dim=1, descending=True, stable=True)
    counts = [min(total, -(-int(count) // bucket) * bucket) for count in unstable.tolist()]
    return [order[row, :count].sort().values for row, count in enumerate(counts)]


class TokenCache:
    """What pruned tokens leave behind in a U-Net's transformer blocks at the latent's own resolution, or in a
    transformer's trunk, per sample and guidance branch: their outputs, and with keys "cached" the keys and values of
    every attention inside. With keys "dropped" the computed tokens attend to each other alone (and to a text).

    Memory: per block or trunk one (branches, B, h*w, channels) tensor, and two of this size (with the text's tokens,
    if they attend together) for each attention inside; made at the first full evaluation and written over from then
    on, whatever the number of steps. With `limit`, a block or trunk is cached if all it needs keeps `nbytes` within so
    many bytes, in the order in which the network meets them; the others are computed in full every time. Without
    `trunk`, a transformer is left alone.
    """

    def __init__(
        self, samples: int, max_depth: int, limit: int | None = None, keys: str = "cached", trunk: bool = True
    ) -> None:
        self.samples = samples
        self.max_depth = max_depth
        self.limit = limit
        self.keys = keys
        self.trunk = trunk
        self._held: dict[str, dict[str, Tensor]] = {}  # by block or trunk, then by part: (branches * samples, ...)
        self._refused: set[str] = set()
        self._filled: set[int] = set()
        self._chosen: dict[int, tuple[dict[tuple[int, int], list[Tensor]], int]] = {}

    def holds(self, row: int) -> bool:
        """Whether sample `row` has been evaluated in full since the start, in a network with blocks to prune."""
        return row in self._filled

    def computed(self, row: int) -> Tensor | None:
        """Which tokens the last pruned evaluation of sample `row` computed: bool (h, w), at the finest site pruned."""
        kept_at, i = self._chosen[row]
        for (height, width), kept in kept_at.items():  # the first that was met on the way down is the finest
            mask = torch.zeros(height * width, dtype=torch.bool, device=kept[i].device)
            mask[kept[i]] = True
            return mask.view(height, width)
        return None

    @property
    def nbytes(self) -> int:
        """Bytes held at present."""
        return sum(held.numel() * held.element_size() for parts in self._held.values() for held in parts.values())

    def filling(self, rows: Sequence[int]) -> Seam:
        """The seam of a full evaluation of `rows`: computes everything and remembers what pruned ones will need."""
        owner: str | None = None

        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            nonlocal owner
            if owner is not None:
                if site.kind == "attention" and self.keys == "cached":
                    for part, heads in _keys_and_values(site, args).items():
                        self._store(owner, part, heads, rows)
                return fn(hidden, *args)
            if not self._concerns(site):
                return fn(hidden, *args)
            owner = site.name
            output = fn(hidden, *args)
            owner = None
            if self._store(site.name, "output", output, rows):
                self._filled.update(rows)
            return output

        return seam

    def pruning(self, rows: Sequence[int], scores: Tensor, cell: int, limit: int) -> Seam:
        """The seam of a pruned evaluation of `rows`, whose positions have the instability `scores` (len(rows), h, w).

        `cell` and `limit` are those of `keep_tokens`.
        """
        kept_at: dict[tuple[int, int], list[Tensor]] = {}
        self._chosen.update({row: (kept_at, i) for i, row in enumerate(rows)})
        group: _Group | None = None

        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            nonlocal group
            if group is not None:
                attended = site.kind == "attention" and self.keys == "cached"
                return fn(hidden, *(group.completed(site, args) if attended else args))
            if site.name not in self._held:
                return fn(hidden, *args)
            if site.size not in kept_at:
                kept_at[site.size] = keep_tokens(F.adaptive_avg_pool2d(scores, site.size), cell, limit)
            held, branches = self._held[site.name], hidden.shape[0] // len(rows)
            for alike, positions in _alike(kept_at[site.size]):
                here = places(hidden, len(rows), alike)
                entries = places(held["output"], self.samples, [rows[i] for i in alike])
                group = _Group(held, entries, positions.repeat(branches, 1))
                index = _index(here, group.positions, hidden.shape[1])
                given = [
                    None if arg is None else
                    _tokens(arg, index, len(here)) if position in site.per_token else _rows(arg, here)
                    for position, arg in enumerate(args)
                ]  # fmt: skip
                group.update("output", fn(_tokens(hidden, index, len(here)), *given))
                group = None
            return _rows(held["output"], places(held["output"], self.samples, rows)).clone()

        return seam

    def _concerns(self, site: Site) -> bool:
        pruned = (site.kind == "trunk" and self.trunk) or (site.kind == "block" and not site.prefix)
        return pruned and site.depth <= self.max_depth

    def _store(self, owner: str, part: str, fresh: Tensor, rows: Sequence[int]) -> bool:
        """Remember a part of what the site `owner` needs; False where the limit leaves no room for all of it."""
        if owner in self._refused:
            return False
        parts, branches = self._held.setdefault(owner, {}), fresh.shape[0] // len(rows)
        if part not in parts:
            shape = (branches * self.samples, *fresh.shape[1:])
            if self.limit is not None and self.nbytes + math.prod(shape) * fresh.element_size() > self.limit:
                del self._held[owner]
                self._refused.add(owner)
                return False
            parts[part] = fresh.new_empty(shape)
        entries = places(parts[part], self.samples, rows)
        if _whole(parts[part], entries):
            parts[part].copy_(fresh)
        else:
            parts[part][entries] = fresh
        return True


@dataclass(frozen=True)
class _Group:
    """Samples of a pruned evaluation that compute equally many tokens of a site: what is held for it, where their
    entries lie in that, and the positions (entries, count) that they compute."""

    held: dict[str, Tensor]
    entries: list[int]
    positions: Tensor
    _indices: dict[int, Tensor] = field(default_factory=dict)

    def update(self, part: str, fresh: Tensor, prefix: int = 0) -> None:
        """Write what was computed, (entries, prefix + count, ...), over what is held of it."""
        held = self.held[part]
        if prefix not in self._indices:
            first = torch.arange(prefix, device=self.positions.device).expand(len(self.entries), -1)
            positions = torch.cat((first, self.positions + prefix), dim=1)
            self._indices[prefix] = _index(self.entries, positions, held.shape[1])
        held.flatten(0, 1).index_copy_(0, self._indices[prefix], fresh.flatten(0, 1))

    def completed(self, site: Site, args: Sequence[Tensor | None]) -> list[Tensor]:
        """Keys and values of all tokens at `site`: the fresh ones of those computed, the others' as they last were."""
        complete = []
        for part, heads in _keys_and_values(site, args).items():
            self.update(part, heads, site.prefix)
            complete.append(_rows(self.held[part], self.entries))
        return complete


def _keys_and_values(site: Site, args: Sequence[Tensor | None]) -> dict[str, Tensor]:
    key, value = args
    assert key is not None and value is not None
    return {f"{site.name}.key": key, f"{site.name}.value": value}


def _alike(kept: Sequence[Tensor]) -> Iterator[tuple[list[int], Tensor]]:
    """The samples that keep equally many positions, and which (samples, count)."""
    for count in sorted({len(positions) for positions in kept}):
        samples = [i for i, positions in enumerate(kept) if len(positions) == count]
        yield samples, torch.stack([kept[i] for i in samples])


def _whole(batch: Tensor, places: list[int]) -> bool:
    return places == list(range(batch.shape[0]))


def _rows(batch: Tensor, places: list[int]) -> Tensor:
    """Of a batch what lies at `places`; the batch itself where that is all of it."""
    return batch if _whole(batch, places) else batch[places]


def _index(places: list[int], positions: Tensor, length: int) -> Tensor:
    """The tokens at `positions` (places, count) of the samples at `places`, counted through a batch of `length` each.

    Taking and writing whole tokens by one index moves memory in rows, many times as fast as gather and scatter do.
    """
    return (torch.tensor(places, device=positions.device)[:, None] * length + positions).flatten()


def _tokens(batch: Tensor, index: Tensor, samples: int) -> Tensor:
    return batch.flatten(0, 1).index_select(0, index).unflatten(0, (samples, -1))
