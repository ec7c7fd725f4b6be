"""A comparison as a page to explore: plain beside accelerated, step by step."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from torch import Tensor

from ..explore import explore_page
from ..families import AudioFamily, VideoFamily
from .comparison import Comparison

if TYPE_CHECKING:
    from ..pipeline.pipeline import Pipeline

Decode = Callable[[Tensor], Tensor]
"""Maps latents (N, C, h, w) to RGB pictures (N, 3, H, W) in [0, 1]."""

_MOST_PROMPTS: Final = 8
_DECODED: Final = 1024  # latent positions up to which every x0 is decoded in full; larger ones are shown by previews


def explore_comparison(comparison: Comparison, title: str, decode: Decode | None = None) -> str:
    """Renders the page.

    Args:
        comparison: A comparison with traces.
        title: Heading of the page.
        decode: Makes the pictures of x0 at every step. None: the page has curves and modes only.

    Returns:
        HTML text; it shows the first eight prompts.

    Raises:
        ValueError: If the comparison has no traces.
    """
    plain, fast = comparison.plain.traces, comparison.accelerated.traces
    if len(plain) < len(comparison.prompts) or len(fast) < len(comparison.prompts):
        raise ValueError("the comparison has no trajectories to explore; call compare(..., trace=True)")
    groups = {}
    for index, prompt in enumerate(comparison.prompts[:_MOST_PROMPTS]):
        traces = {"plain": plain[index], comparison.accelerator: fast[index]}
        groups[f"{index + 1}: {prompt}"] = [
            trace.explored(0, label, None if decode is None else decode(trace.x0[0]), plain[index])
            for label, trace in traces.items()
        ]
    return explore_page(title, groups)


def decoder(pipe: "Pipeline") -> Decode | None:
    """What makes the pictures of x0 at every step: the checkpoint's decoder, or its preview where that takes long.

    Of videos it shows the frame in the middle, by the preview.

    Returns:
        None for checkpoints that make sound.
    """
    if isinstance(pipe.family, AudioFamily):
        return None

    def decode(x0: Tensor) -> Tensor:
        if isinstance(pipe.family, VideoFamily):
            frames: Tensor = pipe.preview(x0)
            return frames[:, frames.shape[1] // 2]
        small = x0.shape[-2] * x0.shape[-1] <= _DECODED
        shown: Tensor = pipe.decode(x0) if small else pipe.preview(x0)
        return shown

    return decode
