"""The token cache: transformer blocks run on the unstable tokens, the others keep their cached output.

SADA's token-wise pruning (arXiv 2507.17135, Eqs. 18-20): a full evaluation initialises the cache of each block, a
pruned one computes the kept tokens, updates their cache entries and reconstructs the rest from the cache. In a
transformer, where no layer outside the blocks mixes tokens, the stack of blocks is cached as one.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sadaflow.models import Seam, Site

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
    """Outputs of a U-Net's transformer blocks at the latent's own resolution, or of a transformer's trunk, per sample
    and guidance branch.

    Memory: one (branches, B, h*w, channels) tensor for each of these sites, made at its first full evaluation and
    written over from then on, whatever the number of steps. With `limit`, sites are cached in the order in which the
    network meets them as long as `nbytes` stays within so many bytes; the others are computed in full every time.
    """

    def __init__(self, samples: int, max_depth: int, limit: int | None = None) -> None:
        self.samples = samples
        self.max_depth = max_depth
        self.limit = limit
        self._outputs: dict[str, Tensor] = {}
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
        return sum(output.numel() * output.element_size() for output in self._outputs.values())

    def filling(self, rows: Sequence[int]) -> Seam:
        """The seam of a full evaluation of `rows`: computes everything and remembers the blocks' outputs."""

        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            output = fn(hidden, *args)
            if self._concerns(site) and (entry := self._entry(site.name, output, len(rows))) is not None:
                self._filled.update(rows)
                entry[:, list(rows)] = output.unflatten(0, (-1, len(rows)))
            return output

        return seam

    def pruning(self, rows: Sequence[int], scores: Tensor, cell: int, limit: int) -> Seam:
        """The seam of a pruned evaluation of `rows`, whose positions have the instability `scores` (len(rows), h, w).

        `cell` and `limit` are those of `keep_tokens`.
        """
        kept_at: dict[tuple[int, int], list[Tensor]] = {}
        self._chosen.update({row: (kept_at, i) for i, row in enumerate(rows)})

        def seam(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
            if site.name not in self._outputs:
                return fn(hidden, *args)
            if site.size not in kept_at:
                kept_at[site.size] = keep_tokens(F.adaptive_avg_pool2d(scores, site.size), cell, limit)
            kept, entry = kept_at[site.size], self._outputs[site.name]
            for count in sorted({len(indices) for indices in kept}):
                group = [i for i, indices in enumerate(kept) if len(indices) == count]
                self._update(site, entry, fn, hidden, args, rows, group, torch.stack([kept[i] for i in group]))
            return entry[:, list(rows)].flatten(0, 1)

        return seam

    def _update(
        self,
        site: Site,
        entry: Tensor,
        fn: Callable[..., Tensor],
        hidden: Tensor,
        args: tuple[Tensor | None, ...],
        rows: Sequence[int],
        group: list[int],
        kept: Tensor,
    ) -> None:
        """Compute the kept tokens (len(group), count) of the samples `rows[i] for i in group` and store them."""

        def part(batch: Tensor) -> Tensor:
            return batch.unflatten(0, (-1, len(rows)))[:, group]

        def taken(position: int, arg: Tensor | None) -> Tensor | None:
            if arg is None:
                return None
            rows_of = part(arg)
            return (_gather(rows_of, kept) if position in site.per_token else rows_of).flatten(0, 1)

        tokens = _gather(part(hidden), kept).flatten(0, 1)
        computed = fn(tokens, *(taken(position, arg) for position, arg in enumerate(args)))
        samples = [rows[i] for i in group]
        computed = computed.unflatten(0, (entry.shape[0], -1))
        entry[:, samples] = entry[:, samples].scatter(2, _index(kept, computed), computed)

    def _concerns(self, site: Site) -> bool:
        pruned = site.kind == "trunk" or (site.kind == "block" and not site.prefix)
        return pruned and site.depth <= self.max_depth

    def _entry(self, name: str, like: Tensor, rows: int) -> Tensor | None:
        """The cached outputs of site `name`, made if need be; None where the limit leaves no room for them."""
        if name not in self._outputs:
            size = like.element_size() * like.numel() // rows * self.samples
            if self.limit is not None and self.nbytes + size > self.limit:
                return None
            self._outputs[name] = like.new_empty((like.shape[0] // rows, self.samples, *like.shape[1:]))
        return self._outputs[name]


def _index(kept: Tensor, like: Tensor) -> Tensor:
    """Positions kept (B, count) as an index of the third dimension of `like` (branches, B, ..., channels...)."""
    index = kept.view(1, *kept.shape, *(1,) * (like.dim() - 3))
    return index.expand(like.shape[0], -1, -1, *like.shape[3:])


def _gather(tokens: Tensor, kept: Tensor) -> Tensor:
    """Of tokens (branches, B, N, channels...) those at the positions kept (B, count)."""
    return tokens.gather(2, _index(kept, tokens))
