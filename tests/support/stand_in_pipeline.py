"""A stand-in for `Pipeline` whose images depend on prompt, seed and skipped steps alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sadaflow.families import Request
from sadaflow.loading.sampling_defaults import Recommended
from sadaflow.sampling import Stats, Trace
from sadaflow.solvers import Grid, RectifiedFlow, Solver, make_solver


@dataclass(frozen=True)
class Made:
    """The output of a call."""

    images: Tensor
    stats: Stats
    trace: Trace | None = None
    audio: None = None
    fps: None = None


@dataclass
class StandIn:
    """Returns what a Pipeline returns: an image of prompt and seed, plus 0.01 if any evaluation is skipped."""

    name: str = "stand-in"
    seconds_per_evaluation: float = 0.5
    size: tuple[int, int] = (16, 24)
    default_guidance: float = 7.5
    recommended: Recommended = Recommended()
    family: None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    grids: list[str | Grid | None] = field(default_factory=list)

    def __call__(self, prompt: str | Sequence[str], **arguments: Any) -> Made:
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        self.calls.append({"prompts": prompts, **arguments})
        solver = arguments["solver"]
        steps = arguments["steps"] if isinstance(solver, str | None) else solver.n_evals
        modes = self.modes(steps, arguments["accelerator"])
        nfe = float(modes.count("full"))
        images = torch.stack([self.picture(text, arguments["seed"]) for text in prompts])
        if nfe < len(modes):
            images = images + 0.01
        count = len(prompts)
        stats = Stats([nfe] * count, [modes] * count, nfe * count * self.seconds_per_evaluation, 0.0, 0.0)
        return Made(images, stats, self.trace(modes) if arguments.get("trace") else None)

    def solver(self, name: str | None, steps: int, grid: str | Grid | None, **size: int | None) -> Solver:
        self.grids.append(grid)
        points = grid if isinstance(grid, Grid) else Grid.from_t(RectifiedFlow(), torch.linspace(1, 0, steps + 1))
        return make_solver(name or "dpmpp2m", points)

    def decode(self, x0: Tensor) -> Tensor:
        return torch.zeros(len(x0), 3, *self.size)

    def solver_for(self, request: Request) -> Solver:
        return StandIn().solver(request.solver, request.steps or 20, request.grid)

    @staticmethod
    def modes(steps: int, accelerator: str | None) -> list[str]:
        third = range(3, steps - 1, 3)
        skipped = {None: (), "uniform": range(2, steps - 1, 2), "sada": third, "auto": third}[accelerator]
        return ["full" if i not in skipped else "stepwise" if i < steps / 2 else "multistep" for i in range(steps)]

    @staticmethod
    def trace(modes: list[str]) -> Trace:
        """Two values per step, with an error where it is skipped; the criterion decides in the first half."""
        steps, skipped = len(modes), torch.tensor([mode != "full" for mode in modes])
        t = torch.linspace(1, 0.05, steps, dtype=torch.float64)
        x0 = (1 + 0.1 * skipped).view(1, steps, 1).repeat(1, 1, 2)
        criterion = torch.where(skipped, -1e-6, 1e-5).double().view(1, steps)
        criterion[:, steps // 2 :] = math.nan
        tokens = [None if skipped[step] else torch.arange(6).view(2, 3) > 1 for step in range(steps)]
        return Trace(
            x=x0, x0=x0, y=x0, modes=(tuple(modes),), criterion=criterion, criterion_name="stability criterion",
            threshold=0.0, tokens=(tuple(tokens),), t=t, timestep=1000 * t, sigma=t, log_snr=torch.log(1 / t - 1),
            network_seconds=t, controller_seconds=t,
        )  # fmt: skip

    def picture(self, prompt: str, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed + sum(prompt.encode()))
        return 0.9 * torch.rand((3, *self.size), generator=generator)
