"""Exact denoisers as a plain callable and as networks that let a seam in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from sadaflow.models import Seam, Site, call_through
from sadaflow.solvers import Prediction, Solver, input_scale

from .problems import Modes, Posterior

PLAIN: Final = "plain callable"
UNET: Final = "U-Net"
TRANSFORMER: Final = "transformer"
NETWORKS: Final = (UNET, TRANSFORMER, PLAIN)

_GUIDANCE = 1.5
_TEXT = 2  # tokens before those of the image
_SHARES = (0.25, 0.35, 0.3, 0.1)  # of x0, that each block of the transformer adds
_LEVELS = (0, 0, 1)  # of the shells of the U-Net


@dataclass
class Plain:
    """The exact denoiser as a callable without rows or seam."""

    solver: Solver
    data: Modes
    prediction: Prediction
    calls: int = 0

    def __call__(self, x: Tensor, step: int) -> Tensor:
        self.calls += 1
        node = self.solver.nodes[step]
        return Posterior([part.to(x) for part in self.data.parts], node.alpha, node.sigma)(x)


@dataclass(frozen=True)
class Work:
    """The work of one evaluation of one sample.

    Attributes:
        step: Index of the evaluation.
        row: Index of the sample.
        share: Share of the network's layers, over all tokens, that were computed; 1 is the whole network once.
        exact: Whether the prediction equals that of the whole network, if that was asked for.
    """

    step: int
    row: int
    share: float
    exact: bool


@dataclass
class Seamed:
    """The exact denoiser as a network with two branches of guidance, on states (B, C, h, w).

    The U-Net has three shells around a transformer block; the transformer has four blocks in a trunk, with two text
    tokens before those of the image. States of other shapes are denoised without a seam.

    Attributes:
        solver: The solver, with the nodes.
        data: The data.
        kind: "U-Net" or "transformer".
        prediction: What accelerators take the network to predict. Its input is scaled as for that type.
        verify: Whether to compare each prediction with that of the whole network.
        work: What each evaluation computed.
        late: Number of calls of the network's layers after the evaluation that they belong to.
    """

    solver: Solver
    data: Modes
    kind: str = UNET
    prediction: Prediction = "flow"
    verify: bool = True
    work: list[Work] = field(default_factory=list)
    late: int = 0

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
        """The network's x0 (branches x rows, ...), the conditional branch last."""
        data, node = self.data.of(rows), self.solver.nodes[step]
        scale = input_scale(self.prediction, node.alpha, node.sigma)
        alpha, sigma = scale * node.alpha, scale * node.sigma
        # The modes of the negative branch are twice as close.
        each = [_closer(data).parts, data.parts][-branches:]
        parts = [torch.cat(part).to(x) for part in zip(*each, strict=True)]
        hidden = torch.cat([scale * x] * branches)
        if x.dim() != 4:
            self.work += [Work(step, row, branches / 2, True) for row in rows]
            return Posterior(parts, alpha, sigma)(hidden)
        network = _unet if self.kind == UNET else _transformer
        layers = _Layers(hidden.shape[0], self)
        x0 = network(hidden, parts, alpha, sigma, seam, layers)
        layers.open = False
        exact = x0
        if self.verify and seam is not call_through:
            exact = network(hidden, parts, alpha, sigma, call_through, _unwatched)
        whole = 2 * layers.of(network) * x.shape[2:].numel()
        for first, row in enumerate(rows):
            entries = range(first, len(hidden), len(rows))
            share = sum(layers.tokens[entry] for entry in entries) / whole
            self.work.append(Work(step, row, share, all(torch.equal(x0[entry], exact[entry]) for entry in entries)))
        return x0


class _Layers:
    """Counts the tokens of each row that pass a layer, and makes multiplications for the operation counter."""

    def __init__(self, rows: int, owner: Seamed) -> None:
        self.tokens = [0] * rows
        self.owner = owner
        self.open = True
        """Whether the evaluation is in progress; an accelerator may have kept the layers and call them later."""

    @staticmethod
    def of(network: Callable[..., Tensor]) -> int:
        """Number of layers of a network."""
        return 2 * len(_LEVELS) + 1 if network is _unet else len(_SHARES)

    def __call__(self, tokens: Tensor, ids: Tensor, prefix: int = 0) -> Tensor:
        """One layer on tokens (B, prefix + N, C) of the rows `ids`, which changes nothing and ignores the prefix."""
        self.owner.late += not self.open
        for entry in ids.tolist():
            self.tokens[entry] += tokens.shape[1] - prefix
        image = tokens[:, prefix:]
        image = image + image @ image.new_zeros(image.shape[2], image.shape[2])
        return torch.cat((tokens[:, :prefix], image), dim=1) if prefix else image


def _unwatched(tokens: Tensor, ids: Tensor, prefix: int = 0) -> Tensor:
    """A layer that is not counted."""
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
