"""Names that Flux.1 and the networks derived from it have in their authors' layout."""

from collections.abc import Mapping
from typing import Final

from ..original_layout import Fused, in_blocks

_DOUBLE: Final[Mapping[str, str | Fused]] = {
    "img_attn.qkv": Fused(("attn.to_q", "attn.to_k", "attn.to_v")),
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.qkv": Fused(("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")),
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "txt_attn.proj": "attn.to_add_out",
}
_DOUBLE_FEED_FORWARD: Final = {
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
_SINGLE: Final[Mapping[str, str | Fused]] = {
    "linear1": Fused(("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"), (1, 1, 1, 4)),
    "linear2": "proj_out",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
}
TOP: Final = {"img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out"}
"""Modules outside the blocks that all of them have."""
DOUBLE_ATTENTION: Final = in_blocks("double_blocks", "transformer_blocks", _DOUBLE)
"""The attention of double-stream blocks."""
BLOCKS: Final = {
    **DOUBLE_ATTENTION,
    **in_blocks("double_blocks", "transformer_blocks", _DOUBLE_FEED_FORWARD),
    **in_blocks("single_blocks", "single_transformer_blocks", _SINGLE),
}
"""Blocks with the feed-forward of Flux.1, without modulations."""
