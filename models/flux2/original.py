"""Names of FLUX.2's tensors in the authors' layout, in which projections of double-stream blocks are fused."""

from typing import Final

from ..original_layout import OriginalLayout, in_blocks
from ..streams.original import DOUBLE_ATTENTION, TOP

_EMBEDDERS = {
    "time_in": "time_guidance_embed.timestep_embedder",
    "guidance_in": "time_guidance_embed.guidance_embedder",
}
_MODULATIONS = ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation")
_FEED_FORWARD = {
    "img_mlp.0": "ff.linear_in",
    "img_mlp.2": "ff.linear_out",
    "txt_mlp.0": "ff_context.linear_in",
    "txt_mlp.2": "ff_context.linear_out",
}
_SINGLE = {
    "linear1": "attn.to_qkv_mlp_proj",
    "linear2": "attn.to_out",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
}
ORIGINAL: Final = OriginalLayout(
    {
        **TOP,
        "final_layer.adaLN_modulation.1": "norm_out.linear",
        **{f"{old}.in_layer": f"{new}.linear_1" for old, new in _EMBEDDERS.items()},
        **{f"{old}.out_layer": f"{new}.linear_2" for old, new in _EMBEDDERS.items()},
        **{f"{name}.lin": f"{name}.linear" for name in _MODULATIONS},
        **DOUBLE_ATTENTION,
        **in_blocks("double_blocks", "transformer_blocks", _FEED_FORWARD),
        **in_blocks("single_blocks", "single_transformer_blocks", _SINGLE),
    },
    swapped=frozenset({"final_layer.adaLN_modulation.1"}),
)
