"""What the two ways to give a network sites have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..seam import Seam
from .evaluation import Evaluation, running

Call = Callable[..., Tensor]
"""Calls a module as `call(module, x, *given)`, all tensors with a row for each sample; returns its prediction."""

Found = TypeVar("Found")

_ROUNDING: Final = {torch.float64: 1e-9, torch.float32: 1e-4}
_COARSE: Final = 5e-2  # of half precision


@dataclass(frozen=True)
class Trial(Generic[Found]):
    """What trial evaluations found.

    Attributes:
        found: What later evaluations need to know.
        plain: The prediction for two samples.
        through: The same through all sites.
    """

    found: Found
    plain: Tensor
    through: Tensor


class Plan(Protocol[Found]):
    """A way to give a network sites."""

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The submodules that report their calls, by name."""
        ...

    @property
    def condition(self) -> str:
        """In words, what is wrong with a network whose prediction changes: "... when CONDITION"."""
        ...

    def examine(self, network: nn.Module, call: Call, inputs: Sequence[Tensor]) -> Trial[Found]:
        """Makes trial evaluations.

        Args:
            network: The network with standing modules.
            call: Calls it.
            inputs: x and what else has a row for each sample, of one sample.
        """
        ...

    def run(self, network: nn.Module, call: Call, inputs: Sequence[Tensor], found: Found, seam: Seam) -> Tensor:
        """The prediction through a seam; arguments as of `examine`, for any number of samples."""
        ...


def called(evaluation: Evaluation, network: nn.Module, call: Call, inputs: Sequence[Tensor]) -> Tensor:
    """The prediction of a network whose standing modules report to `evaluation`."""
    with running(evaluation):
        return call(network, *inputs)


def twice(inputs: Sequence[Tensor]) -> list[Tensor]:
    """A batch of two of one sample."""
    return [torch.cat([tensor, tensor]) for tensor in inputs]


def matches(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs are equal up to rounding."""
    if one.shape != other.shape:
        return False
    apart, scale = (one.double() - other.double()).abs().max(), other.double().abs().max()
    return bool(apart <= _ROUNDING.get(other.dtype, _COARSE) * scale)
