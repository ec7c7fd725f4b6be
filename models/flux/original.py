"""Names of Flux.1's tensors in the authors' layout, in which projections are fused."""

from typing import Final

from ..original_layout import OriginalLayout, in_blocks
from ..streams.original import BLOCKS, TOP

_EMBEDDERS = {
    "time_in": "time_text_embed.timestep_embedder",
    "guidance_in": "time_text_embed.guidance_embedder",
    "vector_in": "time_text_embed.text_embedder",
}
ORIGINAL: Final = OriginalLayout(
    {
        **TOP,
        "final_layer.adaLN_modulation.1": "norm_out.linear",
        **{f"{old}.in_layer": f"{new}.linear_1" for old, new in _EMBEDDERS.items()},
        **{f"{old}.out_layer": f"{new}.linear_2" for old, new in _EMBEDDERS.items()},
        **BLOCKS,
        **in_blocks(
            "double_blocks",
            "transformer_blocks",
            {"img_mod.lin": "norm1.linear", "txt_mod.lin": "norm1_context.linear"},
        ),
        **in_blocks("single_blocks", "single_transformer_blocks", {"modulation.lin": "norm.linear"}),
    },
    swapped=frozenset({"final_layer.adaLN_modulation.1"}),
)
