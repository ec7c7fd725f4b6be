"""All laws for solvers, in the order in which they are measured."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from . import accuracy, order, purity, stochastic, structure, tensors, velocity
from .distribution import distribution_laws
from .examination import Examination
from .report import Law

Measure = Callable[..., Iterable[Law]]


@dataclass(frozen=True)
class Entry:
    """A measurement of one or more laws.

    Attributes:
        names: names of the laws that it measures; the first one fails if the solver raises.
        measure: `measure(examination, grid name)`, or `measure(examination)`.
        grids: "all" measures on every grid, "first" on the first one, "own" once, on grids of the law's own.
        solvers: "all", "ode" or "stochastic": which solvers it is measured on.
    """

    names: tuple[str, ...]
    measure: Measure
    grids: str = "all"
    solvers: str = "all"

    def applies(self, examination: Examination) -> bool:
        """Whether the law is measured on this kind of solver."""
        return self.solvers == "all" or (self.solvers == "stochastic") == examination.stochastic

    def where(self, examination: Examination) -> list[str]:
        """Names of the grids on which it is measured; "" for grids of its own."""
        names = list(examination.grids)
        return [""] if self.grids == "own" else names if self.grids == "all" else names[:1]


def _end(examination: Examination, name: str) -> Iterator[Law]:
    if examination.ends_at_x0:
        yield from accuracy.end(examination, name)


def _distribution(examination: Examination) -> list[Law]:
    return distribution_laws(lambda grid, noise: examination.make(grid, noise), examination.grids)


CATALOGUE: Final = (
    Entry(("evaluations",), structure.counts),
    Entry(("nodes on schedule",), structure.nodes),
    Entry(("start",), structure.start, solvers="ode"),
    Entry(("timesteps",), structure.timesteps),
    Entry(("step repeats", "step keeps inputs"), purity.purity),
    Entry(("fork",), purity.forks),
    Entry(("object",), purity.object_state),
    Entry(("velocity",), velocity.velocities),
    Entry(("velocity",), velocity.velocities_from_noise, "own"),
    Entry(("ends at x0",), _end),
    Entry(("few steps",), accuracy.few_steps),
    Entry(("noise start",), accuracy.from_noise, "own"),
    Entry(("constant x0",), accuracy.constants, solvers="ode"),
    Entry(("trajectory", "convergence"), accuracy.trajectories, solvers="ode"),
    Entry(("jagged grid",), accuracy.uneven, "own", "ode"),
    Entry(("batch invariance",), tensors.batches),
    Entry(("shapes",), tensors.shapes, "first"),
    Entry(("dtype",), tensors.dtypes, "first"),
    Entry(("gradients",), tensors.gradients, "first"),
    Entry(("global generators", "default dtype"), purity.generators, "first"),
    Entry(("memory", "work"), structure.memory, "first"),
    Entry(("host reads",), tensors.host_reads, "first"),
    Entry(("compile",), tensors.compiles, "first"),
    Entry(("order",), order.orders, solvers="ode"),
    Entry(("jagged order",), order.jagged_orders, "own", "ode"),
    Entry(("noise draws",), stochastic.noise_draws, solvers="stochastic"),
    Entry(("noise source",), stochastic.noise_source, "first", "stochastic"),
    Entry(("drift order",), stochastic.drift, "own", "stochastic"),
    Entry(("strong order",), stochastic.strong, "first", "stochastic"),
    Entry(("distribution",), _distribution, "own", "stochastic"),
)

LAWS: Final = tuple(dict.fromkeys(name for entry in CATALOGUE for name in entry.names))
"""Names of all laws."""
