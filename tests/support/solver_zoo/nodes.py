"""Solvers whose nodes, or the timesteps that the network gets there, are wrong."""

from dataclasses import replace
from functools import cached_property

from sadaflow.solvers import Node, RungeKutta
from sadaflow.solvers.linear import Update

from .kinds import Ddim, wrong


class _Middles(RungeKutta):
    """The midpoint method with changed nodes."""

    def __init__(self, grid) -> None:  # type: ignore[no-untyped-def]
        super().__init__(grid, method="midpoint")

    def change(self, index: int, node: Node) -> Node:
        return node

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        found = super().nodes
        return tuple(self.change(index, node) if index % 2 else node for index, node in enumerate(found))

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        return super().updates


@wrong("the middle node has the timestep of the step's start", "timesteps")
class StartTimestep(_Middles):
    def change(self, index: int, node: Node) -> Node:
        return replace(node, timestep=self.grid.nodes[index // 2].timestep)


@wrong("the middle node has the schedule's timestep on a grid with a rule of its own", "timesteps")
class ScheduleTimestep(_Middles):
    def change(self, index: int, node: Node) -> Node:
        return replace(node, timestep=float(self.grid.schedule.timestep(node.t)))


@wrong("the middle node has the mean of the timesteps, not the timestep of the mean", "timesteps")
class MeanTimestep(_Middles):
    def change(self, index: int, node: Node) -> Node:
        here = self.grid.nodes[index // 2 : index // 2 + 2]
        return replace(node, timestep=sum(point.timestep for point in here) / len(here))


@wrong("timesteps are rounded to integers", "timesteps")
class RoundedTimestep(_Middles):
    def change(self, index: int, node: Node) -> Node:
        return replace(node, timestep=float(round(node.timestep)))


@wrong("timesteps are 1000 times the flow time on every schedule", "timesteps")
class ThousandTimes(Ddim):
    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(replace(node, timestep=1000 * node.noise_fraction) for node in self.grid.nodes)


@wrong("timesteps are computed from the schedule, which undoes the grid's rounding", "timesteps")
class UndoesRounding(Ddim):
    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        own = self.grid.schedule.timestep(self.grid.t[:-1]).tolist()
        return tuple(replace(node, timestep=t) for node, t in zip(self.grid.nodes, own, strict=True))


@wrong("alpha and sigma of the middle are means of the ends", "nodes on schedule")
class MeanCoefficients(_Middles):
    def change(self, index: int, node: Node) -> Node:
        here, there = self.grid.points[index // 2 : index // 2 + 2]
        return replace(node, alpha=(here.alpha + there.alpha) / 2, sigma=(here.sigma + there.sigma) / 2)


@wrong("nodes are shifted by one: the network gets the end of each step", "trajectory")
class EndNodes(Ddim):
    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return (*self.grid.nodes[1:], self.grid.nodes[-1])
