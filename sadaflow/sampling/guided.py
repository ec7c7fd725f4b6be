"""Guidance of a wrapped network: its scale or rule, and the branch that the prediction is led away from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..guidance import CFG, Rule, Scale
from ..guidance.running import GuidanceRun
from .network import Network, NetworkCall


@dataclass(frozen=True)
class Guided:
    """Guidance: negative + scale (conditional - negative), or another rule of `sadaflow.guidance`.

    Sources: Ho & Salimans 2022, arXiv 2207.12598; with a second network Karras et al. 2024, arXiv 2406.02507.

    Attributes:
        scale: The scale: a number, of which 1 has no negative branch; one for each sample; a function of the
            evaluation; or a rule, as `APG(4)`.
        negative: Arguments of the negative branch by name, where they differ from the conditional branch's: a tensor
            with a row for each sample, or a number for all, as the null label of a class-conditional network. For a
            second network it is all that it is called with.
        network: A second network for the negative branch: one without conditioning, or a weaker version of the same
            (autoguidance, for which `negative` stays None). It predicts what the first does and is told the same time.
        channels: Number of channels, from the first, that are guided; the others are the conditional branch's. None
            guides all of them. Published DiT samplers guide the first three of four.
        call: How the second network is called.
        others: Arguments of each further condition of `Compose`, as `negative`.
    """

    scale: Scale | Rule
    negative: Mapping[str, Any] | None = None
    network: Callable[..., Any] | None = None
    channels: int | None = None
    call: NetworkCall = NetworkCall()  # noqa: RUF009 - frozen
    others: Sequence[Mapping[str, Any]] = ()

    @property
    def acts(self) -> bool:
        """Whether there is a negative branch."""
        return self.scale != 1 and (self.negative is not None or self.network is not None)

    @property
    def rule(self) -> Rule:
        """The guidance rule."""
        return self.scale if isinstance(self.scale, Rule) else CFG(self.scale)

    def negative_of(self, conditioning: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Arguments of the negative branch, beside those of the conditional one."""
        if self.negative is None:
            return conditioning
        own = _arguments(self.negative, conditioning)
        return own if self.network is not None else {**conditioning, **own}

    def others_of(self, conditioning: Mapping[str, Tensor]) -> list[Mapping[str, Tensor]]:
        """Arguments of the branches of further conditions."""
        return [{**conditioning, **_arguments(other, conditioning)} for other in self.others]

    def second(self, first: Network) -> Network | None:
        """The second network, if there is one."""
        return None if self.network is None else Network(self.network, self.call)

    def between(
        self, run: GuidanceRun, outputs: Sequence[Tensor], x: Tensor, step: int, rows: Sequence[int]
    ) -> Tensor:
        """The guided prediction (R, C, ...); see `GuidanceRun.guided`."""
        if self.channels is None:
            return run.guided(outputs, x, step, rows)
        led = run.guided([output[:, : self.channels] for output in outputs], x[:, : self.channels], step, rows)
        return torch.cat((led, outputs[-1][:, self.channels :]), dim=1)


def _arguments(given: Mapping[str, Any], conditioning: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Arguments of a branch, with a row for each sample."""
    samples = next((len(value) for value in conditioning.values()), 1)
    return {name: _rows(value, conditioning.get(name), samples) for name, value in given.items()}


def _rows(value: Any, like: Tensor | None, samples: int) -> Tensor:
    """A value with a row for each sample, as the conditional branch's: of its dtype and on its device."""
    tensor = torch.as_tensor(value)
    shape: tuple[int, ...] = (samples,)
    if like is not None:
        tensor, shape = tensor.to(like.device, like.dtype), tuple(like.shape)
    return tensor.expand(shape) if tensor.dim() == 0 else tensor
