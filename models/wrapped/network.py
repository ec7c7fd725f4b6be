"""A network with sites for a seam, made of any module by the names of its submodules."""

from typing import Any

from torch import Tensor, nn

from ..seam import Seam, call_through
from .copies import replaced
from .evaluation import standing
from .plan import Call, Plan, matches
from .region_plan import RegionPlan
from .settings import Seams
from .stack_plan import StackPlan


class SeamedNetwork:
    """A network in which a seam may act, although its forward pass knows nothing of seams.

    Evaluations through a seam run a copy of the module tree that shares all parameters; those without one run the
    module itself, which is never changed. Before the first evaluation through a seam, `examine` makes trial
    evaluations of one and two samples, and compares their predictions with and without sites.

    Args:
        module: The network.
        seams: Which submodules are sites.

    Raises:
        ValueError: if a name fits no submodule.
    """

    def __init__(self, module: nn.Module, seams: Seams) -> None:
        if hasattr(module, "_orig_mod"):
            raise ValueError(
                "the network is compiled as a whole, so that no submodule of it can be a site: compile its blocks, or "
                "give the module that torch.compile was called with"
            )
        self.plain, self.seams = module, seams
        self.sites = seams.kinds
        self._plan: Plan[Any] = (
            StackPlan.of(module, seams) if seams.blocks is not None else RegionPlan.of(module, seams)
        )
        self._inner = replaced(module, {name: standing(name, part) for name, part in self._plan.parts.items()})
        self._found: dict[tuple[int, ...], Any] = {}

    def evaluate(self, call: Call, seam: Seam, x: Tensor, *given: Tensor) -> Tensor:
        """The prediction, with the seam called at every site.

        Args:
            call: Calls the network.
            seam: The seam.
            x: The network's input (B, C, ...).
            given: What else has a row for each sample.

        Raises:
            ValueError: if inputs of this shape were not examined.
        """
        if seam is call_through:
            return call(self.plain, x, *given)
        if tuple(x.shape[1:]) not in self._found:
            raise ValueError(f"inputs of the shape {tuple(x.shape[1:])} were not examined: call `examine` first")
        return self._plan.run(self._inner, call, (x, *given), self._found[tuple(x.shape[1:])], seam)

    def examine(self, call: Call, x: Tensor, *given: Tensor) -> None:
        """Finds out how the network calls its submodules, and whether the sites change its prediction.

        It is done once for each shape of x.

        Args:
            call: As of `evaluate`.
            x: The network's input for one sample, (1, C, ...).
            given: What else has a row for each sample.

        Raises:
            ValueError: if the named submodules are not what `Seams` describes, or the prediction changes.
        """
        shape = tuple(x.shape[1:])
        if shape in self._found:
            return
        trial = self._plan.examine(self._inner, call, (x, *given))
        if not matches(trial.through, trial.plain):
            raise ValueError(
                f"the network's prediction changes when {self._plan.condition}; or the network is not in eval mode. "
                "Name other submodules in Seams, or write the network with a seam (docs/write-a-seam.md)"
            )
        self._found[shape] = trial.found
