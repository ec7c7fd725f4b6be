"""Gives a transformer the sites "trunk", "block" and "attention"."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor, nn

from ..seam import Seam
from .arguments import batched
from .copies import replaced
from .evaluation import standing
from .plan import Call, Trial, called, matches, twice
from .settings import Seams
from .stack import Layout, Stack, StackRecord
from .stack_evaluation import StackEvaluation
from .token_trial import TokenTrial


@dataclass(frozen=True)
class StackPlan:
    """The blocks of a transformer.

    Attributes:
        stack: The blocks.
    """

    stack: Stack
    condition: ClassVar[str] = (
        "its blocks run one after the other, since it uses the output of one of them for something else"
    )

    @classmethod
    def of(cls, module: nn.Module, seams: Seams) -> Self:
        """The blocks that `seams` names in a network."""
        names = seams.block_names(module)
        return cls(Stack({name: _with_attention(name, module.get_submodule(name), seams) for name in names}, seams))

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """The blocks by name."""
        return self.stack.blocks

    def examine(self, network: nn.Module, call: Call, inputs: Sequence[Tensor]) -> Trial[Layout]:
        """Records how one and two samples are called, and runs two through the sites, with tokens in two orders."""
        shapes, tokens, doubled = [], 0, twice(inputs)
        for batch in (inputs, doubled):
            record = StackRecord(self.stack)
            plain = called(record, network, call, batch)
            shapes.append(record.finish())
            tokens = record.tokens
        rows = batched(*shapes)
        own = [shapes[1][index] or () for index in rows]
        per_token = tuple(i for i, shape in enumerate(own) if len(shape) > 2 and shape[1] == tokens)
        if per_token and self.stack.seams.prefix:
            per_token = ()  # such arguments have entries for the prefix too, which a trunk's hidden has not
        for candidate in dict.fromkeys((per_token, ())):
            layout, trial = Layout(rows, candidate), TokenTrial(matches)
            through = self.run(network, call, doubled, layout, trial)
            if trial.tokens:
                layout = replace(layout, tokens=True)
                break
        return Trial(layout, plain, through)

    def run(self, network: nn.Module, call: Call, inputs: Sequence[Tensor], found: Layout, seam: Seam) -> Tensor:
        """The prediction through a seam."""
        return called(StackEvaluation(self.stack, found, seam, inputs[0].shape[2:]), network, call, inputs)


def _with_attention(name: str, block: nn.Module, seams: Seams) -> nn.Module:
    """A block whose attention, if it is named, reports its calls."""
    if seams.attention is None:
        return block
    known = dict(block.named_modules())
    if seams.attention not in known or seams.attention == "":
        children = ", ".join(child for child, _ in block.named_children()) or "none"
        raise ValueError(f"Seams.attention={seams.attention!r} is not a submodule of {name}, whose are {children}")
    return replaced(block, {seams.attention: standing(f"{name}.{seams.attention}", known[seams.attention])})
