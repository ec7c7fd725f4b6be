"""The prediction in what a network returns: a tensor, or a tuple, dict or object that holds it."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Part = str | int | Callable[[Any], Tensor] | None
"""Where the prediction is: a key or attribute, an index, or a function of the output; None takes the usual place."""


def prediction_in(output: Any, part: Part, x: Tensor) -> Tensor:
    """The prediction in a network's output.

    By default that is the output if it is a tensor, the first entry of a tuple or list, or `sample` of a dict or an
    object. Of an output with twice the channels of x the first half is taken: the others are a learned variance
    (Nichol & Dhariwal 2021, arXiv 2102.09672).

    Args:
        output: What the network returned.
        part: Where the prediction is in it.
        x: The network's input (B, C, ...).

    Returns:
        The prediction, with the shape of x.

    Raises:
        ValueError: if there is no tensor there, or its shape is another.
    """
    found = _part(output, part)
    if not isinstance(found, Tensor):
        raise ValueError(
            f"the network returns a {type(output).__name__}, in which no prediction is found{_at(part)}: give "
            "NetworkCall(output=), a key, an index, an attribute or a function"
        )
    doubled = (x.shape[0], 2 * x.shape[1], *x.shape[2:]) if x.dim() > 1 else None
    if found.shape == doubled:
        return found[:, : x.shape[1]]
    if found.shape != x.shape:
        raise ValueError(
            f"the network returns the shape {tuple(found.shape)}{_at(part)} for x of {tuple(x.shape)}; a prediction "
            f"has the shape of x, or twice its channels with a learned variance"
        )
    return found


def _part(output: Any, part: Part) -> Any:
    if callable(part):
        return part(output)
    if isinstance(output, Tensor) and part is None:
        return output
    if isinstance(output, Mapping):
        return output.get("sample" if part is None else part)
    if isinstance(part, str):
        return getattr(output, part, None)
    if isinstance(output, (tuple, list)):
        index = part or 0
        return output[index] if index < len(output) else None
    return getattr(output, "sample", None)


def _at(part: Part) -> str:
    return "" if part is None else f" at output={part!r}"
