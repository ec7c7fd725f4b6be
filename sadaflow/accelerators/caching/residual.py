"""Residuals of a part of the network, kept per sample and added again."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ...device.indexing import put, taken
from ..history import RowStore
from .base import batch_indices, on_some


class Residuals(RowStore):
    """The residual output - input of a site at each sample's last full evaluation.

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
        """The output of the site: computed for some samples, and the input plus the stored residual for the others.

        Args:
            fn: The site's function.
            computed: Indices of the samples to compute, whose residuals are stored.
            rows: Indices of all samples in the batch.
            hidden: Input of the site, (branches x len(rows), ...).
            *args: Further arguments of `fn`.
        """
        if len(computed) == len(rows):
            output = fn(hidden, *args)
            self.put(rows, output - hidden)
            return output
        output = hidden + self.take(rows)
        if computed:
            positions = {row: position for position, row in enumerate(rows)}
            chosen = [positions[row] for row in computed]
            at = batch_indices(hidden, len(rows), chosen)
            fresh = on_some(fn, len(rows), chosen, hidden, *args)
            self.put(computed, fresh - taken(hidden, at))
            put(output, at, fresh)
        return output
