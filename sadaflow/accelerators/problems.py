"""Data with exact denoisers that accelerators are examined on, as a plain callable and as a network with a seam."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sadaflow.models import Seam, Site, call_through
from sadaflow.solvers import Solver

_GUIDANCE = 1.5


@dataclass(frozen=True)
class Modes:
    """Data whose numbers are independent: each is `centre` plus or minus `half`, and noise of standard `deviation`.

    Tensors are (B, ...), own to each sample, in float64.
    """

    centre: Tensor
    half: Tensor
    deviation: Tensor

    @classmethod
    def drawn(cls, samples: int, shape: Sequence[int], seed: int = 0) -> "Modes":
        """`samples` of `shape`, the later ones wider; a sample is the same however many are drawn."""
        parts = []
        for row in range(samples):
            generator = torch.Generator().manual_seed(1000 * seed + row)
            draw = torch.rand(3, *shape, generator=generator, dtype=torch.float64)
            parts.append(torch.stack((2 * draw[0] - 1, draw[1], (0.2 + 0.9 * row) * (0.5 + draw[2]))))
        return cls(*torch.stack(parts, 1))

    def of(self, rows: Sequence[int]) -> "Modes":
        index = list(rows)
        return Modes(self.centre[index], self.half[index], self.deviation[index])

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.centre, self.half, self.deviation


def posterior_mean(x: Tensor, centre: Tensor, half: Tensor, deviation: Tensor, alpha: float, sigma: float) -> Tensor:
    """E[x0 | x = alpha x0 + sigma eps], number by number, for the data that `Modes` describes."""
    offset = x - alpha * centre
    variance = (alpha * deviation) ** 2 + sigma**2
    likelier = torch.tanh(alpha * half * offset / variance)  # of the upper mode, less of the lower
    return centre + (alpha * deviation**2 * offset + likelier * half * sigma**2) / variance


@dataclass
class Plain:
    """The exact denoiser as a callable without rows or seam."""

    solver: Solver
    data: Modes
    calls: int = 0

    def __call__(self, x: Tensor, step: int) -> Tensor:
        self.calls += 1
        node = self.solver.nodes[step]
        centre, half, deviation = (part.to(x) for part in self.data.parts)
        return posterior_mean(x, centre, half, deviation, node.alpha, node.sigma)


@dataclass(frozen=True)
class Work:
    """What one evaluation of one sample did: how often its tokens were computed on average (1 is the whole network
    once), and whether its answer was the network's own."""

    step: int
    row: int
    share: float
    exact: bool


@dataclass
class Seamed:
    """The exact denoiser as a network: two branches of guidance, states (B, C, h, w) as h*w tokens through one block.

    It notes what it was made to do. States of other shapes have no block.
    """

    solver: Solver
    data: Modes
    work: list[Work] = field(default_factory=list)

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(x.shape[0]), call_through)

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        if x.dim() != 4:
            self.work += [Work(step, row, 1.0, True) for row in rows]
            return self._guided(x, step, rows, seam, [])
        computed = [0] * (2 * len(rows))
        answer = self._guided(x, step, rows, seam, computed)
        exact = self._guided(x, step, rows, call_through, [0] * (2 * len(rows)))
        for place, row in enumerate(rows):
            share = (computed[place] + computed[place + len(rows)]) / (2 * x.shape[2:].numel())
            self.work.append(Work(step, row, share, torch.equal(answer[place], exact[place])))
        return answer

    def _guided(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam, computed: list[int]) -> Tensor:
        """The guided x0; `computed` counts the tokens computed for each row of the two branches."""
        node, data = self.solver.nodes[step], self.data.of(rows)
        # The other branch has its modes twice as close.
        parts = [torch.cat((other, own)).to(x) for own, other in zip(data.parts, _closer(data).parts, strict=True)]
        hidden = torch.cat((x, x))

        def block(tokens: Tensor, *args: Tensor | None) -> Tensor:
            centre, half, deviation, ids = (arg for arg in args if arg is not None)
            for place in ids.tolist():
                computed[place] += tokens.shape[1]
            return posterior_mean(tokens, centre, half, deviation, node.alpha, node.sigma)

        if x.dim() == 4:
            size = (x.shape[2], x.shape[3])
            site = Site("block", "only", 0, size, per_token=(0, 1, 2))
            ids = torch.arange(hidden.shape[0], device=x.device)
            answer = seam(site, block, _tokens(hidden), *(_tokens(part) for part in parts), ids)
            other, own = answer.mT.unflatten(2, size).chunk(2)
        else:
            other, own = posterior_mean(hidden, parts[0], parts[1], parts[2], node.alpha, node.sigma).chunk(2)
        return other + _GUIDANCE * (own - other)


def _closer(data: Modes) -> Modes:
    return Modes(data.centre, data.half / 2, data.deviation)


def _tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) as (B, h*w, C)."""
    return x.flatten(2).mT
