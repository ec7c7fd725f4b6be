"""Names of Stable Diffusion 3's tensors in the authors' layout, in which projections of attention are fused."""

from torch import Tensor

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
_STREAMS = {
    "x_block": {
        "attn.ln_q": "attn.norm_q",
        "attn.ln_k": "attn.norm_k",
        "attn.proj": "attn.to_out.0",
        "attn2.ln_q": "attn2.norm_q",
        "attn2.ln_k": "attn2.norm_k",
        "attn2.proj": "attn2.to_out.0",
        "mlp.fc1": "ff.net.0.proj",
        "mlp.fc2": "ff.net.2",
        "adaLN_modulation.1": "norm1.linear",
    },
    "context_block": {
        "attn.ln_q": "attn.norm_added_q",
        "attn.ln_k": "attn.norm_added_k",
        "attn.proj": "attn.to_add_out",
        "mlp.fc1": "ff_context.net.0.proj",
        "mlp.fc2": "ff_context.net.2",
        "adaLN_modulation.1": "norm1_context.linear",
    },
}
_FUSED = {
    ("x_block", "attn.qkv"): ("attn.to_q", "attn.to_k", "attn.to_v"),
    ("x_block", "attn2.qkv"): ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    ("context_block", "attn.qkv"): ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}


def from_original(name: str, tensor: Tensor, config: SD3Config) -> dict[str, Tensor]:
    """Converts a tensor of the authors' layout to the Hub's; a tensor of the Hub's is returned as it is.

    Args:
        name: its name.
        tensor: the tensor.
        config: the architecture.

    Returns:
        Tensors by the Hub's names.
    """
    if name == "pos_embed":
        return {"pos_embed.pos_embed": tensor}
    module, _, leaf = name.rpartition(".")
    if module in _TOP:
        return {f"{_TOP[module]}.{leaf}": _swapped(tensor) if module.endswith("modulation.1") else tensor}
    group, _, rest = module.partition(".")
    index, _, rest = rest.partition(".")
    stream, _, inner = rest.partition(".")
    if group != "joint_blocks" or stream not in _STREAMS:
        return {name: tensor}
    block = f"transformer_blocks.{index}"
    if (stream, inner) in _FUSED and len(tensor) % 3 == 0:
        names = (f"{block}.{part}.{leaf}" for part in _FUSED[stream, inner])
        return dict(zip(names, tensor.chunk(3), strict=True))
    if inner not in _STREAMS[stream]:
        return {name: tensor}
    last = stream == "context_block" and inner == "adaLN_modulation.1" and index == str(config.num_layers - 1)
    return {f"{block}.{_STREAMS[stream][inner]}.{leaf}": _swapped(tensor) if last else tensor}


def _swapped(tensor: Tensor) -> Tensor:
    """Exchanges shift and scale: the authors' layout has shift first, the Hub's scale."""
    return tensor.roll(len(tensor) // 2, dims=0)
