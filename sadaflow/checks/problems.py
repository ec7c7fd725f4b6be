"""Data with exact denoisers that accelerators are examined on, as a plain callable and as networks with a seam."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import torch
from torch import Tensor

from sadaflow.models import Seam, Site, call_through
from sadaflow.solvers import Solver

PLAIN: Final = "plain callable"
UNET: Final = "U-Net"
TRANSFORMER: Final = "transformer"
NETWORKS: Final = (UNET, TRANSFORMER, PLAIN)

_GUIDANCE = 1.5
_TEXT = 2  # tokens before those of the image
_SHARES = (0.25, 0.35, 0.3, 0.1)  # of the answer, that the blocks of the transformer add
_LEVELS = (0, 0, 1)  # of the shells of the U-Net


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


class Posterior(NamedTuple):
    """E[x0 | x = alpha x0 + sigma eps], number by number, for data whose `Modes.parts` are given."""

    parts: Sequence[Tensor]
    alpha: float
    sigma: float

    @property
    def _variance(self) -> Tensor:
        return (self.alpha * self.parts[2]) ** 2 + self.sigma**2

    def sides(self, x: Tensor) -> Tensor:
        """How much each number of x looks like the upper mode; its tanh is how much likelier that one is."""
        centre, half, _ = self.parts
        return self.alpha * half * (x - self.alpha * centre) / self._variance

    def mean(self, x: Tensor, likelier: Tensor) -> Tensor:
        centre, half, deviation = self.parts
        near = self.alpha * deviation**2 * (x - self.alpha * centre)
        return centre + (near + likelier * half * self.sigma**2) / self._variance

    def __call__(self, x: Tensor) -> Tensor:
        return self.mean(x, torch.tanh(self.sides(x)))


@dataclass
class Plain:
    """The exact denoiser as a callable without rows or seam."""

    solver: Solver
    data: Modes
    calls: int = 0

    def __call__(self, x: Tensor, step: int) -> Tensor:
        self.calls += 1
        node = self.solver.nodes[step]
        return Posterior([part.to(x) for part in self.data.parts], node.alpha, node.sigma)(x)


@dataclass(frozen=True)
class Work:
    """What one evaluation of one sample did: the share of the network's layers, over all tokens, that were computed (1
    is the whole network once), and whether its answer was the network's own."""

    step: int
    row: int
    share: float
    exact: bool


@dataclass
class Seamed:
    """The exact denoiser as a network with two branches of guidance, on states (B, C, h, w).

    The U-Net has three shells, whose layers make the answer from the skip connections and from what a transformer block
    in the middle says; the transformer has four blocks in a trunk, which add to the image tokens behind two of text.
    It notes what it was made to do. States of other shapes are answered by no network that a seam reaches.
    """

    solver: Solver
    data: Modes
    kind: str = UNET
    work: list[Work] = field(default_factory=list)

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return self.evaluate(x, step, range(x.shape[0]), call_through)

    @property
    def has_negative(self) -> bool:
        return True

    def evaluate(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        return self.evaluate_branches(x, step, rows, seam)[0]

    def evaluate_branches(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> tuple[Tensor, Tensor]:
        other, own = self._through(x, step, rows, seam, 2).chunk(2)
        return other + _GUIDANCE * (own - other), own

    def evaluate_conditional(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam) -> Tensor:
        return self._through(x, step, rows, seam, 1)

    def _through(self, x: Tensor, step: int, rows: Sequence[int], seam: Seam, branches: int) -> Tensor:
        """What the network answers (branches x rows, ...), the conditional branch last."""
        data, node = self.data.of(rows), self.solver.nodes[step]
        # The other branch has its modes twice as close.
        each = [_closer(data).parts, data.parts][-branches:]
        parts = [torch.cat(part).to(x) for part in zip(*each, strict=True)]
        hidden = torch.cat([x] * branches)
        if x.dim() != 4:
            self.work += [Work(step, row, branches / 2, True) for row in rows]
            return Posterior(parts, node.alpha, node.sigma)(hidden)
        network = _unet if self.kind == UNET else _transformer
        layers = _Layers(hidden.shape[0])
        answer = network(hidden, parts, node.alpha, node.sigma, seam, layers)
        exact = answer if seam is call_through else network(
            hidden, parts, node.alpha, node.sigma, call_through, _unwatched
        )
        whole = 2 * layers.of(network) * x.shape[2:].numel()
        for place, row in enumerate(rows):
            places = range(place, len(hidden), len(rows))
            share = sum(layers.tokens[one] for one in places) / whole
            self.work.append(Work(step, row, share, all(torch.equal(answer[one], exact[one]) for one in places)))
        return answer


class _Layers:
    """Counts the tokens of each row that went through a layer, and multiplies them for the FLOP counter to see."""

    def __init__(self, rows: int) -> None:
        self.tokens = [0] * rows

    @staticmethod
    def of(network: Callable[..., Tensor]) -> int:
        """Layers that a network has in all."""
        return 2 * len(_LEVELS) + 1 if network is _unet else len(_SHARES)

    def __call__(self, tokens: Tensor, ids: Tensor, prefix: int = 0) -> Tensor:
        """One layer on tokens (B, prefix + N, C), those of the rows `ids`: it changes nothing. The prefix is neither
        counted nor multiplied."""
        for place in ids.tolist():
            self.tokens[place] += tokens.shape[1] - prefix
        image = tokens[:, prefix:]
        image = image + image @ image.new_zeros(image.shape[2], image.shape[2])
        return torch.cat((tokens[:, :prefix], image), dim=1) if prefix else image


def _unwatched(tokens: Tensor, ids: Tensor, prefix: int = 0) -> Tensor:
    """A layer that costs nothing."""
    return tokens


_Layer = Callable[..., Tensor]


def _unet(x: Tensor, parts: Sequence[Tensor], alpha: float, sigma: float, seam: Seam, layers: _Layer) -> Tensor:
    posterior = Posterior(parts, alpha, sigma)
    ids, size = torch.arange(x.shape[0], device=x.device), (x.shape[2], x.shape[3])

    def layer(hidden: Tensor) -> Tensor:
        return layers(_tokens(hidden), ids).mT.unflatten(2, size)

    def middle(tokens: Tensor, centre: Tensor, half: Tensor, deviation: Tensor, ids: Tensor) -> Tensor:
        return Posterior((centre, half, deviation), alpha, sigma).sides(layers(tokens, ids))

    def deep(skip: Tensor, index: int) -> Tensor:
        skip = layer(skip)
        if index + 1 < len(_LEVELS):
            return shell(skip, index + 1)
        site = Site("block", "middle", 0, size, per_token=(0, 1, 2))
        return seam(site, middle, _tokens(skip), *map(_tokens, parts), ids).mT.unflatten(2, size)

    def inside(skip: Tensor, index: int) -> Tensor:
        level = _LEVELS[index]
        inner = layer(seam(Site("deep", f"deep.{index}", level, size), lambda skip: deep(skip, index), skip))
        if index == len(_LEVELS) - 1:
            return torch.tanh(inner)
        return inner if index else posterior.mean(skip, inner)

    def shell(hidden: Tensor, index: int) -> Tensor:
        site = Site("shell", f"shell.{index}", _LEVELS[index], size)
        return seam(site, lambda skip: inside(skip, index), hidden)

    return shell(x, 0)


def _transformer(x: Tensor, parts: Sequence[Tensor], alpha: float, sigma: float, seam: Seam, layers: _Layer) -> Tensor:
    size = (x.shape[2], x.shape[3])

    def trunk(
        image: Tensor, text: Tensor, centre: Tensor, half: Tensor, deviation: Tensor, ids: Tensor
    ) -> Tensor:
        joint = torch.cat((text, image), dim=1)
        for index, share in enumerate(_SHARES):

            def block(joint: Tensor, ids: Tensor, *rest: Tensor, share: float = share) -> Tensor:
                origin, *own = rest
                added = share * (Posterior(own, alpha, sigma)(origin) - origin)
                joint = layers(joint, ids, _TEXT)
                return torch.cat((joint[:, :_TEXT] + share, joint[:, _TEXT:] + added), dim=1)

            site = Site("block", f"blocks.{index}", 0, size, prefix=_TEXT, per_token=(1, 2, 3, 4))
            joint = seam(site, block, joint, ids, image, centre, half, deviation)
        return joint[:, _TEXT:]

    def probe(image: Tensor, *args: Tensor) -> Tensor:
        return image / (alpha**2 + sigma**2) ** 0.5

    site = Site("trunk", "trunk", 0, size, per_token=(1, 2, 3), probe=probe)
    text, ids = x.new_zeros(x.shape[0], _TEXT, x.shape[1]), torch.arange(x.shape[0], device=x.device)
    return seam(site, trunk, _tokens(x), text, *map(_tokens, parts), ids).mT.unflatten(2, size)


def _closer(data: Modes) -> Modes:
    return Modes(data.centre, data.half / 2, data.deviation)


def _tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) as (B, h*w, C)."""
    return x.flatten(2).mT
