"""Several conditions at once."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .base import Branches, Wrapper


@dataclass(frozen=True)
class Compose(Wrapper):
    """Adds further conditions, each with a weight, to that of the call.

    With u the negative, c the conditional and c_i the further predictions, the inner rule guides from u to

        c + sum_i weight_i (c_i - u).

    A negative weight leads away from a condition. Where the inner rule needs the conditional branch alone, that is the
    call's own condition.

    Source: Liu et al. 2022, arXiv 2206.01714, equation 11, with weights in units of the inner rule's scale.

    Attributes:
        weights: Weight of each further condition.
        prompts: Their prompts, for pipelines; empty for wrapped networks (`Guided.others`).
    """

    weights: tuple[float, ...] = ()
    prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.weights or (self.prompts and len(self.prompts) != len(self.weights)):
            raise ValueError(
                f"Compose needs a weight for each prompt, got {len(self.weights)} for {len(self.prompts)}: "
                'Compose(CFG(7.5), weights=(0.5,), prompts=("in snow",))'
            )
        if self.inner.further:
            raise ValueError("Compose cannot hold another Compose: give all prompts to one")

    @property
    def further(self) -> int:
        return len(self.weights)

    def guided(self, branches: Branches, memory: Any) -> Tensor:
        negative, *others, target = branches.outputs
        for weight, other in zip(self.weights, others, strict=True):
            target = target + weight * (other - negative)
        return super().guided(branches.of(negative, target), memory)


def further_prompts(rule: object) -> tuple[str, ...]:
    """The prompts of the `Compose` in a rule, or a rule's wrappers; empty without one.

    Raises:
        ValueError: If it has weights alone.
    """
    while isinstance(rule, Wrapper) and not isinstance(rule, Compose):
        rule = rule.inner
    if not isinstance(rule, Compose):
        return ()
    if not rule.prompts:
        raise ValueError('Compose needs the prompts of its conditions here: Compose(..., prompts=("in snow",))')
    return rule.prompts
