"""The one exchange that parallel sampling needs: an all-gather within a process group."""

from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """The processes that divide one kind of work.

    Attributes:
        group: Their process group.
    """

    group: "dist.ProcessGroup"

    @property
    def rank(self) -> int:
        """This process's rank in the group."""
        return dist.get_rank(self.group)

    @property
    def size(self) -> int:
        """Number of processes in the group."""
        return dist.get_world_size(self.group)

    def gather(self, tensor: Tensor) -> Tensor:
        """Gathers the tensors (...) of all processes, of equal shape and dtype, as (size, ...) by rank."""
        gathered = tensor.new_empty((self.size, *tensor.shape))
        exchange = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)  # renamed in torch 2.13
        exchange(gathered.flatten(), tensor.contiguous().flatten(), group=self.group)
        return gathered
