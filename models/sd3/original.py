"""Names of Stable Diffusion 3's tensors in the authors' layout, in which projections of attention are fused."""

from collections.abc import Mapping
from typing import Final

from ..original_layout import Fused, OriginalLayout, in_blocks
from .config import SD3Config

_TOP = {  # in the authors' layout -> in the Hub's
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_BLOCK: Final[Mapping[str, str | Fused]] = {
    "x_block.attn.qkv": Fused(("attn.to_q", "attn.to_k", "attn.to_v")),
    "x_block.attn.ln_q": "attn.norm_q",
    "x_block.attn.ln_k": "attn.norm_k",
    "x_block.attn.proj": "attn.to_out.0",
    "x_block.attn2.qkv": Fused(("attn2.to_q", "attn2.to_k", "attn2.to_v")),
    "x_block.attn2.ln_q": "attn2.norm_q",
    "x_block.attn2.ln_k": "attn2.norm_k",
    "x_block.attn2.proj": "attn2.to_out.0",
    "x_block.mlp.fc1": "ff.net.0.proj",
    "x_block.mlp.fc2": "ff.net.2",
    "x_block.adaLN_modulation.1": "norm1.linear",
    "context_block.attn.qkv": Fused(("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")),
    "context_block.attn.ln_q": "attn.norm_added_q",
    "context_block.attn.ln_k": "attn.norm_added_k",
    "context_block.attn.proj": "attn.to_add_out",
    "context_block.mlp.fc1": "ff_context.net.0.proj",
    "context_block.mlp.fc2": "ff_context.net.2",
    "context_block.adaLN_modulation.1": "norm1_context.linear",
}


def original_layout(config: SD3Config) -> OriginalLayout:
    """Returns the names; the last block modulates its text as the final layer does, with shift before scale."""
    last = f"joint_blocks.{config.num_layers - 1}.context_block.adaLN_modulation.1"
    return OriginalLayout(
        {**_TOP, **in_blocks("joint_blocks", "transformer_blocks", _BLOCK)},
        swapped=frozenset({"final_layer.adaLN_modulation.1", last}),
        tensors={"pos_embed": "pos_embed.pos_embed"},
    )
