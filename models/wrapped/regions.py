"""Parts of a U-Net as sites: everything that runs from one submodule to another.

A network's forward pass cannot be entered in the middle. So the function of a site runs the forward pass again: the
submodules before the part return what they returned before, the first one of the part reads the site's input, and the
pass ends when the last one has run. In the outer pass, the submodules of the part then return NaN instead of computing
anything, except the last, which returns the site's output. A network that reads what is inside the part from outside,
as through a skip connection, gets NaN, and is refused.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..seam import Seam, Site
from .arguments import Arguments, Shape
from .attention import Reached, first_tensor
from .evaluation import running
from .settings import Span, is_container


def callable_parts(module: nn.Module, spans: Mapping[str, Span]) -> dict[str, nn.Module]:
    """The submodules that report their calls, by name: the outermost that are not around an end of a span."""
    ends = [name for span in spans.values() for name in span]

    def walk(parent: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        for child, submodule in parent.named_children():
            name = f"{prefix}{child}"
            around = any(end.startswith(f"{name}.") for end in ends)
            if name not in ends and (around or is_container(submodule)):
                yield from walk(submodule, f"{name}.")
            else:
                yield name, submodule

    return dict(walk(module, ""))


@dataclass(frozen=True)
class Made:
    """What a trial found of the outputs of a submodule, at one of its calls.

    Attributes:
        name: Name of the submodule.
        output: Its output in an evaluation of two samples, with empty tensors.
        batched: Indices of the tensors in it that have a row for each sample.
    """

    name: str
    output: Arguments
    batched: tuple[int, ...]

    def unknown(self, samples: int, like: Tensor) -> Any:
        """An output of NaN for `samples` samples, of the dtype and on the device of `like`."""
        leaves = [
            leaf
            if not isinstance(leaf, Tensor)
            else like.new_full((samples, *leaf.shape[1:]) if at in self.batched else leaf.shape, float("nan"))
            for at, leaf in enumerate(self.output.leaves)
        ]
        return self.output.given(range(len(leaves)), leaves)


@dataclass
class CallRecord:
    """An evaluation that calls every submodule as it is, and records the names and the outputs.

    Attributes:
        spans: First and last submodule of each part, by kind.
        calls: Name of the submodule and its output, for each call in order.
        inputs: Shape of the first argument of each part's first submodule, by kind.
    """

    spans: Mapping[str, Span]
    calls: list[tuple[str, Arguments]] = field(default_factory=list)
    inputs: dict[str, Shape] = field(default_factory=dict)

    def enter(self, name: str, inner: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Calls the submodule."""
        for kind, (first, _) in self.spans.items():
            hidden = first_tensor(args, keywords)
            if name == first:
                if hidden is None:
                    raise ValueError(f"the first argument of {name} (Seams.{kind}) must be a tensor")
                self.inputs[kind] = tuple(hidden.shape)
        output = inner(*args, **keywords)
        self.calls.append((name, Arguments.of(output)))
        return output

    def finish(self) -> None:
        """Checks that each part is entered once, and left after that, and that a shell keeps the shape of its input."""
        names = [name for name, _ in self.calls]
        for kind, (first, last) in self.spans.items():
            for name in (first, last):
                if names.count(name) != 1:
                    raise ValueError(f"the network calls {name} (Seams.{kind}) {names.count(name)} times, not once")
            if names.index(first) > names.index(last):
                raise ValueError(f"Seams.{kind}: {first} runs after {last}; name the first and the last submodule")
            output = self.calls[names.index(last)][1]
            if output.shapes[:1] == (None,) or len(output.leaves) != 1:
                raise ValueError(f"{last} (Seams.{kind}) must return a tensor, got {len(output.leaves)} values")
            if kind == "shell" and output.shapes[0] != self.inputs[kind]:
                raise ValueError(
                    f"a shell must return the shape of its input {self.inputs[kind]}, and {last} returns "
                    f"{output.shapes[0]}; name it deep= if another layer reads the skip connection"
                )


@dataclass
class RegionEvaluation:
    """An evaluation through a seam, or the repeated pass inside a site of one.

    Attributes:
        spans: First and last submodule of each part, by kind.
        made: What a trial found of each call's output, in order.
        seam: The seam.
        call: Calls the network on (x, *given).
        inputs: x and what else of the call has a row for each sample.
        inside: Kind of the part that this pass computes; None in the outer pass.
        hidden: What its first submodule reads.
        known: Outputs of the calls before it.
    """

    spans: Mapping[str, Span]
    made: Sequence[Made]
    seam: Seam
    call: Callable[..., Any]
    inputs: Sequence[Tensor]
    inside: str | None = None
    hidden: Tensor | None = None
    known: Sequence[Any] = ()
    _outputs: list[Any] = field(default_factory=list)
    _hole: tuple[str, Tensor] | None = None

    def enter(self, name: str, inner: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Returns a known output, the seam's, or what the submodule computes."""
        index = len(self._outputs)
        if index >= len(self.made) or self.made[index].name != name:
            expected = self.made[index].name if index < len(self.made) else "no further submodule"
            raise ValueError(f"the network calls {name}, where the trial evaluation called {expected}")
        output = self._output(index, name, inner, args, keywords)
        self._outputs.append(output)
        if self.inside is not None and self._hole is None and name == self.spans[self.inside][1]:
            raise Reached(output)
        return output

    def _output(self, index: int, name: str, inner: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if index < len(self.known):
            return self.known[index]
        if self._hole is not None:
            return self._within(index, name)
        begins = self.inside is not None and index == len(self.known)
        hidden = self.hidden if begins else first_tensor(args, keywords)
        starting = [kind for kind, (first, _) in self.spans.items() if first == name]
        if begins:
            starting = starting[starting.index(self.inside or "") + 1 :]
        if starting:
            assert hidden is not None
            self._hole = self.spans[starting[0]][1], self._through(starting[0], hidden)
            return self._within(index, name)
        if begins:
            args, keywords = _with_first(hidden, args, keywords)
        return inner(*args, **keywords)

    def _within(self, index: int, name: str) -> Any:
        """The output of a submodule in a part whose output is known."""
        assert self._hole is not None
        last, output = self._hole
        if name == last:
            self._hole = None
            return output
        return self.made[index].unknown(self.inputs[0].shape[0], output)

    def _through(self, kind: str, hidden: Tensor) -> Tensor:
        """The output of the part `kind`, by the seam."""
        outputs = [Arguments.of(output) for output in self._outputs]
        rows = [made.batched for made in self.made[: len(outputs)]]
        tensors = [tensor for output, indices in zip(outputs, rows, strict=True) for tensor in output.taken(indices)]
        size = (hidden.shape[-2], hidden.shape[-1]) if hidden.dim() == 4 else (1, hidden.shape[1])
        fn = partial(self._again, kind, outputs, rows)
        return self.seam(Site(kind, kind, 0, size, tokens=False), fn, hidden, *self.inputs, *tensors)

    def _again(
        self, kind: str, outputs: Sequence[Arguments], rows: Sequence[Sequence[int]], hidden: Tensor, *args: Tensor
    ) -> Tensor:
        """Runs the part `kind` in a repeated pass; `args` are the inputs, then the outputs before it."""
        inputs, tensors = args[: len(self.inputs)], iter(args[len(self.inputs) :])
        known = [
            output.given(indices, [next(tensors) for _ in indices])
            for output, indices in zip(outputs, rows, strict=True)
        ]
        again = RegionEvaluation(self.spans, self.made, self.seam, self.call, inputs, kind, hidden, known)
        with running(again):
            try:
                self.call(*inputs)
            except Reached as reached:
                found: Tensor = reached.value
                return found
        raise ValueError(f"the network does not reach {self.spans[kind][1]} (Seams.{kind})")


def _with_first(
    hidden: Tensor | None, args: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with another first one."""
    if args:
        return (hidden, *args[1:]), keywords
    return (), {**keywords, next(iter(keywords)): hidden}
