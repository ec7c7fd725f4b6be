"""Names of FLUX.2's tensors in the authors' layout, in which projections of double-stream blocks are fused."""

from torch import Tensor

from .config import Flux2Config

_TOP = {  # in the authors' layout -> in the Hub's
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
    "guidance_in.in_layer": "time_guidance_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_guidance_embed.guidance_embedder.linear_2",
    "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
    "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
    "single_stream_modulation.lin": "single_stream_modulation.linear",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_DOUBLE = {
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "img_attn.proj": "attn.to_out.0",
    "img_mlp.0": "ff.linear_in",
    "img_mlp.2": "ff.linear_out",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "txt_attn.proj": "attn.to_add_out",
    "txt_mlp.0": "ff_context.linear_in",
    "txt_mlp.2": "ff_context.linear_out",
}
_FUSED = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_SINGLE = {
    "linear1": "attn.to_qkv_mlp_proj",
    "linear2": "attn.to_out",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
}
_BLOCKS = {"double_blocks": ("transformer_blocks", _DOUBLE), "single_blocks": ("single_transformer_blocks", _SINGLE)}


def from_original(name: str, tensor: Tensor, config: Flux2Config) -> dict[str, Tensor]:
    """Converts a tensor of the authors' layout to the Hub's; a tensor of the Hub's is returned as it is.

    Args:
        name: its name.
        tensor: the tensor.
        config: the architecture.

    Returns:
        Tensors by the Hub's names.
    """
    module, _, leaf = name.rpartition(".")
    leaf = "weight" if leaf == "scale" else leaf
    if module in _TOP:
        if module.startswith("final_layer.adaLN"):  # the authors' shift precedes the scale
            tensor = tensor.roll(len(tensor) // 2, dims=0)
        return {f"{_TOP[module]}.{leaf}": tensor}
    group, _, rest = module.partition(".")
    index, _, inner = rest.partition(".")
    if group not in _BLOCKS:
        return {name: tensor}
    stack, table = _BLOCKS[group]
    if group == "double_blocks" and inner in _FUSED and len(tensor) % 3 == 0:
        names = (f"{stack}.{index}.{part}.{leaf}" for part in _FUSED[inner])
        return dict(zip(names, tensor.chunk(3), strict=True))
    return {f"{stack}.{index}.{table[inner]}.{leaf}" if inner in table else name: tensor}
