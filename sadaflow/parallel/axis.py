"""The one exchange that parallel sampling needs: everybody hands in a tensor and gets all of them."""

from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """The processes that share one kind of work, of which this one is the `rank`-th of `size`."""

    group: "dist.ProcessGroup"

    @property
    def rank(self) -> int:
        return dist.get_rank(self.group)

    @property
    def size(self) -> int:
        return dist.get_world_size(self.group)

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors (size, ...) of all, by rank; they have one shape and dtype. Bit for bit the same for all."""
        gathered = tensor.new_empty((self.size, *tensor.shape))
        exchange = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)  # the same, by its name since 2.13
        exchange(gathered.flatten(), tensor.contiguous().flatten(), group=self.group)
        return gathered
