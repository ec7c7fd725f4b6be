"""Negative prompts of checkpoints that are not guided without one."""

import warnings

from .request import Request


def required_negatives(request: Request) -> list[str]:
    """The negative prompts of a guided request, one for each sample; none if it is not guided.

    Raises:
        ValueError: If some samples have one and others do not.
    """
    negatives = [negative for negative in request.negatives if negative is not None]
    if not request.guided:
        return []
    if not negatives:
        guidance = request.known_guidance
        shown = f"{guidance:g}" if isinstance(guidance, float) else f"{guidance}"
        warnings.warn(
            f"guidance={shown} has no effect without a negative prompt: give negative_prompt=' ', "
            "which is an empty one, or guidance=1",
            stacklevel=5,
        )
    elif len(negatives) < len(request.prompts):
        raise ValueError("negative_prompt is None for some samples: give one for every sample, or for none")
    return negatives
