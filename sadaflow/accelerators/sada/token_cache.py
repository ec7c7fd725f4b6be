"""The token cache: transformer blocks run on the unstable tokens, the others keep their cached output.

SADA's token-wise pruning (arXiv 2507.17135, Eqs. 18-20): a full evaluation initialises the cache of each block, a
pruned one computes the kept tokens, updates their cache entries and reconstructs the rest from the cache. In a
transformer, where no layer outside the blocks mixes tokens, the stack of blocks is cached as a whole. Unlike in the
paper, the kept tokens attend to all tokens: keys and values of the pruned ones are those they last had.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from sadaflow.models import Seam, Site

from ...device.indexing import index_of, put, taken
from ..caching.base import batch_indices
from .token_choice import KeptTokens, keep_tokens, unstable_counts

KEYS = ("cached", "dropped")
Size = tuple[int, ...]
"""Height and width of a site's grid of tokens; of a video's frames, height and width."""


class TokenCache:
    """Cache of a network's transformer blocks, from which pruned evaluations complete the tokens that they skip.

    It covers the transformer blocks of a U-Net at the latent's own resolution, or the trunk of a transformer. It holds,
    per sample and guidance branch, their outputs and, with keys "cached", the keys and values of every attention
    inside. With keys "dropped" the computed tokens attend only to each other (and to text tokens).

    Memory: per block or trunk one tensor (branches, B, h*w, channels), and for each attention inside two of this size,
    with the text's tokens if they attend together. They are allocated at the first full evaluation and overwritten from
    then on, whatever the number of steps.

    Args:
        samples: Number of samples, B.
        max_depth: Prune down to this many downsamplings below the latent's resolution.
        limit: Most bytes held. Blocks are cached in the order in which the network runs them, while all that one needs
            fits; the others are computed in full every time. None: no bound.
        keys: "cached" or "dropped".
        trunk: Whether transformers are pruned.
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
        self._sizes: list[Size] = []  # of the sites that are cached
        self._chosen: dict[int, tuple[dict[Size, KeptTokens], int]] = {}

    def holds(self, row: int) -> bool:
        """Whether sample `row` has been evaluated in full in a network with blocks to prune."""
        return row in self._filled

    def computed(self, row: int) -> Tensor | None:
        """Mask of the tokens that sample `row`'s last pruned evaluation computed, at the finest site, bool.

        Its shape is that of the site's grid of tokens, (h, w) or (T, h, w).
        """
        kept_at, i = self._chosen[row]
        for size, kept in kept_at.items():  # the first on the way down is the finest
            positions = kept[i]
            mask = torch.zeros(math.prod(size), dtype=torch.bool, device=positions.device)
            return mask.index_fill(0, positions, True).view(size)
        return None

    @property
    def nbytes(self) -> int:
        """Bytes that the cache holds."""
        return sum(held.numel() * held.element_size() for parts in self._held.values() for held in parts.values())

    def filling(self, rows: Sequence[int]) -> Seam:
        """The seam of a full evaluation of the samples `rows`; stores what pruned evaluations need."""
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
                self._sizes = [*self._sizes, *({site.size} - {*self._sizes})]
            return output

        return seam

    def unstable(self, scores: Tensor, cell: int) -> dict[Size, Tensor]:
        """What `unstable_counts` returns at each size of the cached sites, from scores (B, h, w) or (B, T, h, w)."""
        return {size: unstable_counts(_resized(scores, size), cell) for size in self._sizes}

    def pruning(
        self,
        rows: Sequence[int],
        scores: Tensor,
        cell: int,
        limit: int,
        unstable: Mapping[Size, Sequence[float]] | None = None,
    ) -> Seam:
        """The seam of a pruned evaluation.

        Args:
            rows: Indices of the samples.
            scores: Instability of each position, (len(rows), h, w) or (len(rows), T, h, w).
            cell: Side length of a cell, as in `keep_tokens`.
            limit: Most unstable positions computed, as in `keep_tokens`.
            unstable: What `unstable` returned for these samples, if it has been read.
        """
        kept_at: dict[Size, KeptTokens] = {}
        groups: dict[Size, list[_Group]] = {}
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
                known = (unstable or {}).get(site.size)
                kept_at[site.size] = keep_tokens(_resized(scores, site.size), cell, limit, known)
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
            return taken(held["output"], batch_indices(held["output"], self.samples, rows)).clone()

        return seam

    def _concerns(self, site: Site) -> bool:
        pruned = (site.kind == "trunk" and self.trunk) or (site.kind == "block" and not site.prefix)
        return pruned and site.tokens and site.depth <= self.max_depth

    def _store(self, owner: str, part: str, fresh: Tensor, rows: Sequence[int]) -> bool:
        """Stores a part of what the site `owner` needs. Returns False if the memory limit leaves no room for it."""
        if owner in self._refused:
            return False
        parts, branches = self._held.setdefault(owner, {}), fresh.shape[0] // len(rows)
        shape = (branches * self.samples, *fresh.shape[1:])
        if part in parts and parts[part].shape != shape:  # guidance begins or ends, and all samples are stored anew
            del parts[part]
        if part not in parts:
            if self.limit is not None and self.nbytes + math.prod(shape) * fresh.element_size() > self.limit:
                del self._held[owner]
                self._refused.add(owner)
                return False
            parts[part] = fresh.new_empty(shape)
        put(parts[part], batch_indices(parts[part], self.samples, rows), fresh)
        return True


@dataclass(frozen=True)
class _Group:
    """Samples of a pruned evaluation that compute the same number of positions.

    Tokens are read and written by one index over rows of memory, which is many times as fast as gather and scatter.

    Attributes:
        here: Their indices in the network's batch.
        entries: Their indices in the cached batch.
        positions: Positions that they compute, (len(here), count).
    """

    here: list[int]
    entries: list[int]
    positions: Tensor
    _indices: dict[tuple[bool, int], Tensor] = field(default_factory=dict)

    def tokens(self, batch: Tensor) -> Tensor:
        """Selects the computed tokens, (len(here), count, ...), of the network's batch (B, h*w, ...)."""
        index = self._index(False, 0, batch.shape[1])
        return batch.flatten(0, 1).index_select(0, index).unflatten(0, (len(self.here), -1))

    def write(self, held: Tensor, fresh: Tensor, prefix: int = 0) -> None:
        """Writes computed tokens (len(entries), prefix + count, ...) into cached ones (B, prefix + h*w, ...)."""
        held.flatten(0, 1).index_copy_(0, self._index(True, prefix, held.shape[1]), fresh.flatten(0, 1))

    def _index(self, held: bool, prefix: int, length: int) -> Tensor:
        """Flat indices of the computed tokens in the network's or the cached batch, of `length` tokens per entry."""
        if (held, prefix) not in self._indices:
            device = self.positions.device
            first = torch.arange(prefix, device=device).expand(len(self.here), -1)
            starts = index_of(self.entries if held else self.here, device)[:, None] * length
            positions = torch.cat((first, self.positions + prefix), dim=1)
            self._indices[held, prefix] = (starts + positions).flatten()
        return self._indices[held, prefix]


def _groups(kept: KeptTokens, rows: Sequence[int], samples: int, hidden: Tensor, held: Tensor) -> Iterator[_Group]:
    """Groups `rows` by the number of positions computed; `hidden` is the network's batch, `held` a cached one."""
    for alike, positions in kept.groups():
        here, entries = batch_indices(hidden, len(rows), alike), batch_indices(held, samples, [rows[i] for i in alike])
        yield _Group(here, entries, positions.repeat(len(here) // len(alike), 1))


def _resized(scores: Tensor, size: Size) -> Tensor:
    """Scores (B, h, w) or (B, T, h, w) on a site's grid of tokens."""
    if scores.shape[1:] == size:
        return scores
    if len(size) == 2:
        return F.adaptive_avg_pool2d(scores, size)
    frames, rows, columns = size
    return F.adaptive_avg_pool3d(scores, (frames, rows, columns))


def _completed(
    group: _Group, held: dict[str, Tensor], site: Site, args: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Keys and values of all tokens at `site`: new for the computed tokens, cached for the others; and other args."""
    complete: list[Tensor | None] = []
    for part, heads in _keys_and_values(site, args).items():
        group.write(held[part], heads, site.prefix)
        complete.append(taken(held[part], group.entries))
    return [*complete, *args[2:]]


def _keys_and_values(site: Site, args: Sequence[Tensor | None]) -> dict[str, Tensor]:
    key, value = args[:2]
    assert key is not None and value is not None
    return {f"{site.name}.key": key, f"{site.name}.value": value}
