"""What a part of the network adds to its input, kept per sample to be added again."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ...device.indexing import put, taken
from ..history import RowStore
from .base import on_some, places


class Residuals(RowStore):
    """The residual output - input of a site, of each sample's last evaluation in full.

    Memory: one tensor of the site's size a sample and guidance branch.
    """

    def apply(
        self,
        fn: Callable[..., Tensor],
        computed: Sequence[int],
        rows: Sequence[int],
        hidden: Tensor,
        *args: Tensor | None,
    ) -> Tensor:
        """What the site answers to hidden (branches x len(rows), ...): `fn` for the samples `computed` out of `rows`,
        whose residuals it keeps, for the others hidden with theirs."""
        if len(computed) == len(rows):
            output = fn(hidden, *args)
            self.put(rows, output - hidden)
            return output
        output = hidden + self.take(rows)
        if computed:
            chosen = [list(rows).index(row) for row in computed]
            at = places(hidden, len(rows), chosen)
            fresh = on_some(fn, len(rows), chosen, hidden, *args)
            self.put(computed, fresh - taken(hidden, at))
            put(output, at, fresh)
        return output
