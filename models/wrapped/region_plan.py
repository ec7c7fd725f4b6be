"""Gives a U-Net the sites "shell" and "deep"."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

from torch import Tensor, nn

from ..seam import Seam, Site
from .arguments import batched
from .plan import Call, Trial, called, twice
from .regions import CallRecord, Made, RegionEvaluation, callable_parts
from .settings import Seams, Span


@dataclass(frozen=True)
class RegionPlan:
    """The parts of a U-Net.

    Attributes:
        parts: The submodules that report their calls, by name.
        spans: First and last submodule of each part, by kind.
    """

    parts: Mapping[str, nn.Module]
    spans: Mapping[str, Span]
    condition: ClassVar[str] = (
        "a part of it is left out, since layers outside the part read what layers inside it computed"
    )

    @classmethod
    def of(cls, module: nn.Module, seams: Seams) -> Self:
        """The parts that `seams` names in a network."""
        spans = seams.spans(module)
        return cls(callable_parts(module, spans), spans)

    def examine(self, network: nn.Module, call: Call, inputs: Sequence[Tensor]) -> Trial[tuple[Made, ...]]:
        """Records the calls of one and of two samples, and runs two through the sites."""
        records = []
        for batch in (inputs, doubled := twice(inputs)):
            record = CallRecord(self.spans)
            plain = called(record, network, call, batch)
            record.finish()
            records.append(record)
        found = tuple(_made(*records))
        return Trial(found, plain, self.run(network, call, doubled, found, _through))

    def run(
        self, network: nn.Module, call: Call, inputs: Sequence[Tensor], found: tuple[Made, ...], seam: Seam
    ) -> Tensor:
        """The prediction through a seam."""
        evaluation = RegionEvaluation(self.spans, found, seam, partial(call, network), inputs)
        return called(evaluation, network, call, inputs)


def _through(site: Site, fn: Callable[..., Tensor], hidden: Tensor, *args: Tensor | None) -> Tensor:
    """Calls through, as `call_through` does, but is not taken for it."""
    return fn(hidden, *args)


def _made(first: CallRecord, second: CallRecord) -> list[Made]:
    """What two records of the same calls say of their outputs."""
    names = [[name for name, _ in record.calls] for record in (first, second)]
    if names[0] != names[1]:
        raise ValueError("the network calls other submodules for two samples than for one, so that it has no parts")
    pairs = zip(first.calls, second.calls, strict=True)
    return [Made(name, two.emptied(), batched(one.shapes, two.shapes)) for (name, one), (_, two) in pairs]
