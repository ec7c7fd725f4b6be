"""Another scale of guidance where there is less noise."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sadaflow.solvers import Node

from .base import Branches, Moment, Needs, Rule, Wrapper
from .cfg import CFG


@dataclass(frozen=True)
class Late(Wrapper):
    """A rule, and classifier-free guidance at timesteps of less noise, for networks in two stages (Wan 2.2).

    Attributes:
        timestep: The timestep below which the second holds.
        scale: Its scale.
    """

    timestep: float
    scale: float

    def _rule(self, moment: Moment) -> Rule:
        late = isinstance(moment.here, Node) and moment.here.timestep < self.timestep
        return CFG(self.scale) if late else self.inner

    def needs(self, moment: Moment) -> Needs:
        return self._rule(moment).needs(moment)

    def guided(self, branches: Branches, memory: Any) -> Tensor:
        return self._rule(branches.moment).guided(branches, memory)
