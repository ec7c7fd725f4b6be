"""Negative prompts of checkpoints that are not guided without one."""

import warnings

from .guidance_options import Guidance
from .request import Request
from .text_family import given_negatives


def has_negatives(request: Request) -> bool:
    """Whether the samples of a request have negative prompts, as text or encoded.

    Raises:
        ValueError: If some samples have one and others do not.
    """
    if given_negatives(request) is not None:
        return True
    missing = request.negatives.count(None)
    if 0 < missing < request.samples:
        raise ValueError("negative_prompt is None for some samples: give one for every sample, or for none")
    return not missing


def required_guidance(request: Request) -> Guidance | None:
    """The guidance between the branches; None, with a warning, if the request is guided but has no negative prompts.

    Raises:
        ValueError: If some samples have a negative prompt and others do not.
    """
    if not request.guided:
        return None
    if has_negatives(request):
        return request.known_guidance
    guidance = request.known_guidance
    shown = f"{guidance:g}" if isinstance(guidance, float) else f"{guidance}"
    where = "" if request.words is None else " to encode()"
    warnings.warn(
        f"guidance={shown} has no effect without a negative prompt: give negative_prompt=' '{where}, "
        "which is an empty one, or guidance=1",
        stacklevel=7,
    )
    return None
