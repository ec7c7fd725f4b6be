"""`Denoiser`: any network as a denoiser that solvers and accelerators can call."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor

from sadaflow.models import Seam, Seams, call_through
from sadaflow.solvers import Node, Preconditioned, Prediction, Schedule, Solver, input_scale, to_x0

from ..guidance import Needs, Rule, Scale
from ..guidance.running import GuidanceRun, require_pointwise
from .agreement import require_schedule
from .conditioning import Conditioned
from .denoiser import Rows
from .guided import Guided
from .network import Network, NetworkCall
from .told_time import Time, known_time, told_times
from .wrap_checks import check_bound, check_guidance, check_prediction, read_conditioning, require_x0

_NOTHING: Mapping[str, Any] = MappingProxyType({})
REVERSED = "reversed_flow"
"""Prediction x0 - eps, the opposite of "flow"."""


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A denoiser around any network; `wrap` makes it, and `sample` binds it to the solver's nodes.

    It evaluates any rows of the batch, both branches of guidance in one call or the conditional one alone, and lets a
    seam into the network at the sites that `Seams` names.

    Attributes:
        network: The network, and how it is called.
        prediction: What it predicts, or would after a change of sign.
        sign: -1 for a network that predicts x0 - eps, otherwise 1.
        schedule: The noise schedule that it was trained on.
        time: What it is told of the time.
        conditioning: Arguments of the network, with a row for each sample, (B, ...) each.
        guidance: Scale or rule, and negative branch.
        nodes: The nodes of the evaluations, once it is bound.
    """

    network: Network
    prediction: Prediction
    sign: float
    schedule: Schedule
    time: Time
    conditioning: Mapping[str, Tensor]
    guidance: Guided
    nodes: Sequence[Node] = ()
    _branches: tuple[Conditioned, ...] = field(init=False, default=(), repr=False)
    _run: GuidanceRun | None = field(init=False, default=None, repr=False)

    @classmethod
    def wrap(
        cls,
        module: Callable[..., Any],
        *,
        prediction: Prediction,
        schedule: Schedule,
        time: Time | None = None,
        conditioning: Mapping[str, Any] = _NOTHING,
        guidance: Scale | Rule | Guided = 1.0,
        seams: Seams | None = None,
        call: NetworkCall = NetworkCall(),  # noqa: B008 - frozen
    ) -> Self:
        """Makes a denoiser of a network.

        Args:
            module: A torch module or any callable, called as `module(x, time, **arguments)` with x (B, C, ...) and
                time (B,).
            prediction: What it predicts: "eps"; "v" = alpha eps - sigma x0; "x0"; "flow" = eps - x0; "reversed_flow" =
                x0 - eps; or `Preconditioned(sigma_data)` for F of Karras et al. 2022 (arXiv 2206.00364), whose input
                and output are scaled here.
            schedule: The noise schedule that it was trained on.
            time: What it is told: a name in `TIMES`, or a function of the node. None is "c_noise" for a
                `Preconditioned` network, and otherwise the grid's "timestep".
            conditioning: Arguments of the network by name, with a row for each sample: class labels, text states.
            guidance: Scale of classifier-free guidance, or a rule, with its negative branch (`Guided`); 1 has none.
            seams: The network's sites, for accelerators that act inside.
            call: How it is called, where that differs from the usual.

        Raises:
            ValueError: if the prediction does not fit the schedule, arguments are missing or do not fit each other, or
                `seams` name no submodules.
        """
        sign = -1.0 if prediction == REVERSED else 1.0
        predicted: Prediction = "flow" if prediction == REVERSED else prediction
        check_prediction(predicted, schedule)
        default = "c_noise" if isinstance(predicted, Preconditioned) else "timestep"
        guided = guidance if isinstance(guidance, Guided) else Guided(guidance)
        given = read_conditioning(conditioning)
        check_guidance(guided, given)
        network = Network(module, call, seams)
        network.check_arguments(tuple(given))
        told = known_time(default if time is None else time)
        return cls(network, predicted, sign, schedule, told, given, guided)

    def over(self, nodes: Sequence[Node], noise: Tensor | None = None) -> Self:
        """The denoiser bound to nodes, as `sample` binds it to those of its solver.

        Args:
            nodes: The nodes of the evaluations.
            noise: Start noise (B, ...) of the run, which the conditioning and the network's device are checked against;
                a network with sites makes its trial evaluations at the first sample. None leaves that out.

        Raises:
            ValueError: if the nodes are not on the schedule, or something else does not fit.
        """
        bound = replace(self, nodes=nodes)
        if noise is not None:
            require_schedule(self.schedule, nodes)
            require_x0(self.prediction, nodes)
            check_bound(self.network, self.conditioning, noise)
        times = told_times(self.time, nodes, self.schedule)
        second = self.guidance.second(self.network)
        if not self.has_negative:
            branches: tuple[Conditioned, ...] = (Conditioned(self.network, times, [self.conditioning]),)
        else:
            negative = self.guidance.negative_of(self.conditioning)
            others = self.guidance.others_of(self.conditioning)
            if second is None:
                branches = (Conditioned(self.network, times, [negative, *others, self.conditioning]),)
            else:
                own = Conditioned(self.network, times, [self.conditioning])
                branches = (Conditioned(second, times, [negative]), own)
            samples = branches[-1].samples if noise is None else len(noise)
            run = GuidanceRun(self.guidance.rule, nodes, self.prediction, samples)
            object.__setattr__(bound, "_run", run)
        object.__setattr__(bound, "_branches", branches)
        if noise is not None:
            bound._examine(noise, times[0])
        return bound

    def begun(self, solver: Solver) -> Self:
        """The bound denoiser at the beginning of a run of a solver, with the memory of its guidance rule empty."""
        made = copy.copy(self)
        if self._run is not None:
            object.__setattr__(made, "_run", self._run.begun(self.nodes, solver))
        return made

    def at(self, node: Node) -> Self:
        """The denoiser of one node, which adaptive solvers choose on the way."""
        if self.has_negative:
            require_pointwise(self.guidance.rule)
        return self.over((node,))

    def _examine(self, noise: Tensor, time: float) -> None:
        """Makes the network's trial evaluations, on the first sample."""
        row = {name: value[:1] for name, value in self.conditioning.items()}
        self.network.examine(self._inputs(self.nodes[0].sigma * noise[:1], 0), time, **row)

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(x.shape[0]), call_through)

    @property
    def sites(self) -> frozenset[str]:
        """Kinds of sites in the network."""
        return self.network.sites

    @property
    def has_negative(self) -> bool:
        """Whether there is a negative branch."""
        return self.guidance.acts

    @property
    def branches(self) -> int:
        """Number of branches of a full evaluation."""
        return 1 if self._run is None else self._run.branches

    def share(self, step: int) -> float:
        """Cost of evaluation `step`, in units of an evaluation of all branches."""
        return 1.0 if self._run is None else self._run.share(step)

    def evaluate(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the samples `rows`, whose states are x (len(rows), C, ...)."""
        return self._x0(self._outputs(x, step, rows, seam)[0], x, step)

    def evaluate_branches(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> tuple[Tensor, Tensor]:
        """The guided x0, as from `evaluate`, and the x0 of the conditional branch; both as x."""
        guided, conditional = self._outputs(x, step, rows, seam)
        return self._x0(guided, x, step), self._x0(conditional, x, step)

    def evaluate_conditional(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """x0 of the conditional branch, which alone is evaluated."""
        return self._x0(self._alone(x, step, rows, seam), x, step)

    def _outputs(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> tuple[Tensor, Tensor]:
        """The guided prediction and that of the conditional branch."""
        needs = Needs.CONDITIONAL if self._run is None else self._run.needs(step)
        if needs is Needs.NOTHING:
            return torch.zeros_like(x), torch.zeros_like(x)
        if self._run is None or needs is Needs.CONDITIONAL:
            alone = self._alone(x, step, rows, seam)
            return alone, alone
        outputs = self._predictions(x, step, rows, seam)
        return self.guidance.between(self._run, outputs, x, step, rows), outputs[-1]

    def _alone(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Tensor:
        """The prediction of the conditional branch, which alone is evaluated."""
        branches = self._bound()
        return self._from(branches[-1], [self.branches - 1 if len(branches) == 1 else 0], x, step, rows, seam)

    def _bound(self) -> tuple[Conditioned, ...]:
        if not self._branches:
            raise ValueError("this denoiser is not bound to nodes: call sample(), or denoiser.over(solver.nodes)")
        return self._branches

    def _predictions(self, x: Tensor, step: int, rows: Rows, seam: Seam) -> Sequence[Tensor]:
        """The network's predictions by branch, the conditional one last.

        A second network is evaluated without the seam, whose caches hold one network.
        """
        branches = self._bound()
        if len(branches) == 2:
            other = self._from(branches[0], [0], x, step, rows, call_through)
            return other, self._from(branches[1], [0], x, step, rows, seam)
        return self._from(branches[0], range(self.branches), x, step, rows, seam).chunk(self.branches)

    def _from(
        self, network: Conditioned, branches: Sequence[int], x: Tensor, step: int, rows: Rows, seam: Seam
    ) -> Tensor:
        """The predictions of some branches of one network, (branches x rows, C, ...)."""
        inputs = torch.cat([self._inputs(x, step)] * len(branches))
        entries = [branch * network.samples + row for branch in branches for row in rows]
        output = network.evaluate(inputs, step, entries, seam, _NOTHING).to(x.dtype)
        return output if self.sign == 1 else self.sign * output

    def _inputs(self, x: Tensor, step: int) -> Tensor:
        node = self.nodes[step]
        scale = input_scale(self.prediction, node.alpha, node.sigma)
        return (x if scale == 1 else scale * x).to(self.network.dtype(x))

    def _x0(self, output: Tensor, x: Tensor, step: int) -> Tensor:
        node = self.nodes[step]
        return to_x0(self.prediction, output, x, node.alpha, node.sigma)
