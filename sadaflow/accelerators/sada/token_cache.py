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

from ...device.indexing import index_of, put, taken
from ...device.readback import Readback
from ..caching.base import places

KEYS = ("cached", "dropped")
_BUCKETS = 16


def keep_tokens(scores: Tensor, cell: int, limit: int) -> list[Tensor]:
    """Per sample, the sorted indices of the positions to compute, from scores (B, h, w).

    Kept are the unstable positions (score >= 0), the highest first up to `limit`, and the centre of each
    `cell` x `cell` cell. The number is rounded up to a sixteenth of all, the next highest scores filling it, so that
    sizes repeat. Depends on each sample's own scores only.
    """
    total = scores.shape[-2] * scores.shape[-1]
    centres = _centres(scores.shape[-2], scores.shape[-1], cell)
    ranked = scores.flatten(1).index_fill(1, index_of(centres, scores.device), torch.inf)
    unstable = Readback((ranked >= 0).sum(dim=1))
    order = ranked.argsort(dim=1, descending=True, stable=True)
    bucket, most = max(1, -(-total // _BUCKETS)), max(limit, len(centres))
    counts = [min(total, -(-min(int(count), most) // bucket) * bucket) for count in unstable.read()]
    return [order[row, :count].sort().values for row, count in enumerate(counts)]


def _centres(height: int, width: int, cell: int) -> list[int]:
    """The positions in the middle of each cell, row by row."""
    rows, columns = ([min(start + cell // 2, side - 1) for start in range(0, side, cell)] for side in (height, width))
    return [row * width + column for row in dict.fromkeys(rows) for column in dict.fromkeys(columns)]


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
        groups: dict[tuple[int, int], list[_Group]] = {}
        self._chosen.update({row: (kept_at, i) for i, row in enumerate(rows)})
        inside: tuple[_Group, dict[str, Tensor]] | None = None

        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            nonlocal inside
            if inside is not None:
                attended = site.kind == "attention" and self.keys == "cached"
                return fn(hidden, *(_completed(*inside, site, args) if attended else args))
            if site.name not in self._held:
                return fn(hidden, *args)
            held = self._held[site.name]
            if site.size not in groups:
                kept_at[site.size] = keep_tokens(F.adaptive_avg_pool2d(scores, site.size), cell, limit)
                groups[site.size] = list(_groups(kept_at[site.size], rows, self.samples, hidden, held["output"]))
            for group in groups[site.size]:
                inside = group, held
                given = [
                    None if arg is None else
                    group.tokens(arg) if position in site.per_token else taken(arg, group.here)
                    for position, arg in enumerate(args)
                ]  # fmt: skip
                group.write(held["output"], fn(group.tokens(hidden), *given))
                inside = None
            return taken(held["output"], places(held["output"], self.samples, rows)).clone()

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
        put(parts[part], places(parts[part], self.samples, rows), fresh)
        return True


@dataclass(frozen=True)
class _Group:
    """Samples of a pruned evaluation that compute equally many positions of feature maps of one size: which entries of
    the network's batch they are (`here`) and which of what is held (`entries`), and the positions (entries, count).

    Taking and writing whole tokens by one index moves memory in rows, many times as fast as gather and scatter do.
    """

    here: list[int]
    entries: list[int]
    positions: Tensor
    _indices: dict[tuple[bool, int], Tensor] = field(default_factory=dict)

    def tokens(self, batch: Tensor) -> Tensor:
        """Those that are computed, (entries, count, ...), of all (B, h*w, ...) in the network's batch."""
        index = self._index(False, 0, batch.shape[1])
        return batch.flatten(0, 1).index_select(0, index).unflatten(0, (len(self.here), -1))

    def write(self, held: Tensor, fresh: Tensor, prefix: int = 0) -> None:
        """What was computed, (entries, prefix + count, ...), over what is held, (all entries, prefix + h*w, ...)."""
        held.flatten(0, 1).index_copy_(0, self._index(True, prefix, held.shape[1]), fresh.flatten(0, 1))

    def _index(self, held: bool, prefix: int, length: int) -> Tensor:
        """The tokens computed, counted through a batch of `length` each: the network's, or that of what is held."""
        if (held, prefix) not in self._indices:
            device = self.positions.device
            first = torch.arange(prefix, device=device).expand(len(self.here), -1)
            starts = index_of(self.entries if held else self.here, device)[:, None] * length
            positions = torch.cat((first, self.positions + prefix), dim=1)
            self._indices[held, prefix] = (starts + positions).flatten()
        return self._indices[held, prefix]


def _groups(
    kept: Sequence[Tensor], rows: Sequence[int], samples: int, hidden: Tensor, held: Tensor
) -> Iterator[_Group]:
    """The samples `rows` out of `samples`, put together by how many positions each keeps, with their places in the
    network's batch `hidden` and in what is `held`."""
    for count in sorted({len(positions) for positions in kept}):
        alike = [i for i, positions in enumerate(kept) if len(positions) == count]
        here, entries = places(hidden, len(rows), alike), places(held, samples, [rows[i] for i in alike])
        yield _Group(here, entries, torch.stack([kept[i] for i in alike]).repeat(len(here) // len(alike), 1))


def _completed(group: _Group, held: dict[str, Tensor], site: Site, args: Sequence[Tensor | None]) -> list[Tensor]:
    """Keys and values of all tokens at `site`: the fresh ones of those computed, the others' as they last were."""
    complete = []
    for part, heads in _keys_and_values(site, args).items():
        group.write(held[part], heads, site.prefix)
        complete.append(taken(held[part], group.entries))
    return complete


def _keys_and_values(site: Site, args: Sequence[Tensor | None]) -> dict[str, Tensor]:
    key, value = args
    assert key is not None and value is not None
    return {f"{site.name}.key": key, f"{site.name}.value": value}
