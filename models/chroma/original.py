"""Names of Chroma's tensors in the authors' layout: Flux.1's without modulations, which one network computes."""

from typing import Final

from ..original_layout import OriginalLayout
from ..streams.original import BLOCKS, TOP

_APPROXIMATOR = "distilled_guidance_layer"
ORIGINAL: Final = OriginalLayout(
    {
        **TOP,
        f"{_APPROXIMATOR}.layers.{{}}.in_layer": f"{_APPROXIMATOR}.layers.{{}}.linear_1",
        f"{_APPROXIMATOR}.layers.{{}}.out_layer": f"{_APPROXIMATOR}.layers.{{}}.linear_2",
        f"{_APPROXIMATOR}.norms.{{}}": f"{_APPROXIMATOR}.norms.{{}}",  # their weight is called scale
        **BLOCKS,
    }
)
